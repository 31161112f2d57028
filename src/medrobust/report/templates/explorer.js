/* The explorer: one case under one perturbation, as one network sees it.

   The page holds JSON (#explorer-data): `index` says what can be chosen, with the scores of every case; `frames`
   holds the pictures. The page of `medrobust view` has no frames and asks its server for them. A *set* is a
   perturbation crafted on a source, a *pair* a set and a network that faces it, a *frame* a photo, a slice, or a
   slice of a volume in one of three *planes*. */
"use strict";

(() => {
  const holder = document.getElementById("explorer-data");
  if (!holder) return;
  const { index, frames } = JSON.parse(holder.textContent);
  const root = document.getElementById("explorer-view");
  const parts = Object.fromEntries([...root.querySelectorAll("[data-part]")].map(e => [e.dataset.part, e]));
  const pairs = new Map(index.pairs.map((pair, place) => [pair.join("/"), place]));
  const CLEAN = 0;
  const choice = { scan: 0, frame: 0, set: CLEAN, target: 0, plane: "" };
  let drawn = 0;

  /* ---- what there is to choose ---- */

  const pairOf = (set, target) => pairs.get(`${set}/${target}`);
  const faces = (set, target) => pairs.has(`${set}/${target}`);
  const chosenSet = () => index.sets[choice.set];

  /** The sets of a perturbation that the chosen network faces. */
  const setsOf = perturbation =>
    [...index.sets.keys()].filter(
      set => index.sets[set].perturbation === perturbation && faces(set, choice.target));

  /** The set of a perturbation from a source; where the chosen network does not face it, another that it faces. */
  function setLike(perturbation, source) {
    const sets = setsOf(perturbation);
    return sets.find(set => index.sets[set].source === source) ?? sets[0] ?? CLEAN;
  }

  /** Mean Dice of the structures of a whole scan, or the probability of the truth; null where undefined. */
  function score(scan, set = choice.set) {
    const value = index.scans[scan].scores[pairOf(set, choice.target)] ?? null;
    return index.segmentation ? (value?.mean ?? null) : value;
  }

  /** All cases, the worst under the current choice first. */
  function worstFirst() {
    const value = scan => score(scan) ?? Infinity;
    return [...index.scans.keys()].sort((a, b) => value(a) - value(b) || a - b);
  }

  const digits = value => (value === null || value === undefined ? "–" : value.toFixed(3));

  /* ---- pictures ---- */

  /** A frame with the clean set and the chosen one only. */
  async function fetched(wanted) {
    const answer = await fetch(`frame?${new URLSearchParams(wanted)}`);
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  }

  /** The pictures and answers of the choice, from the page or from the server behind it. */
  async function picturesOf({ scan, frame, set, target }) {
    const [whole, place, clean, here] = frames
      ? [frames[scan][frame], set, pairOf(CLEAN, target), pairOf(set, target)]
      : [await fetched({ scan, frame, set, target }), 1, 0, 1];
    return {
      clean: whole.clean,
      truth: whole.truth,
      unlabelled: whole.unlabelled,
      change: whole.changes[place],
      largest: whole.largest[place],
      answer: whole.answers[here],
      cleanAnswer: whole.answers[clean],
      overlap: whole.overlap?.[here],
      cleanOverlap: whole.overlap?.[clean],
    };
  }

  /* ---- what is shown ---- */

  async function load(shown) {
    const maps = index.segmentation ? [shown.truth, shown.answer, shown.cleanAnswer] : [];
    const [clean, change, truth, answer, cleanAnswer] = await Promise.all(
      [shown.clean, shown.change, ...maps].map(uri => uri && pictures.canvasOf(uri)));
    const perturbed = change ? pictures.changed(clean, change, shown.largest, index.levels) : clean;
    const factor = change ? (index.levels.step * index.levels.count) / (255 * shown.largest) : 0;
    return { clean, truth, change, perturbed, answer, cleanAnswer, factor };
  }

  function panels(seen) {
    const name = chosenSet().perturbation;
    const attacked = choice.set !== CLEAN;
    const opacity = parts.overlay.value / 100;
    const left = pictures.copied(seen.clean, seen.truth, opacity);
    const right = pictures.copied(seen.perturbed, seen.answer, opacity);
    const difference = seen.change
      ? [pictures.figure(pictures.copied(seen.change), `Difference × ${Number(seen.factor.toPrecision(2))}`)] : [];
    const [truth, answer, cleanAnswer] = [seen.truth, seen.answer, seen.cleanAnswer].map(
      labels => labels && pictures.onBlack(labels));
    if (parts.wipe.checked) {
      const share = parts.position.value / 100;
      return [
        pictures.figure(pictures.wiped(left, right, share), `Left clean, right ${name}`),
        ...difference,
        ...(truth ? [pictures.figure(pictures.wiped(truth, answer, share), "Left truth, right prediction")] : []),
      ];
    }
    return [
      pictures.figure(left, "Clean"),
      ...(attacked ? [pictures.figure(right, name)] : []),
      ...difference,
      ...(truth ? [pictures.figure(truth, "Truth"), pictures.figure(cleanAnswer, "Prediction when clean")] : []),
      ...(truth && attacked ? [pictures.figure(answer, `Prediction under ${name}`)] : []),
    ];
  }

  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  const number = text => make("td", { className: "number" }, text);

  /** A table whose lines are lists of cells, the head of the line first. */
  function fillTable(caption, heads, lines) {
    const head = heads.map((text, place) => make("th", { scope: "col", className: place ? "number" : "" }, text));
    for (const line of lines) line.forEach((each, place) => { each.dataset.head = heads[place]; });
    parts.table.replaceChildren(
      make("caption", {}, caption),
      make("thead", {}, make("tr", {}, ...head)),
      make("tbody", {}, ...lines.map(line => make("tr", {}, ...line))));
  }

  function swatch(colour) {
    const element = make("span", { className: "swatch" });
    element.style.backgroundColor = colour;
    return element;
  }

  /** Dice of a structure; where the truth lacks it, a dash and the number of pixels or voxels predicted of it. */
  function diceCell(overlap, place) {
    const dice = overlap?.dice[place] ?? null;
    const wrong = overlap?.extra[place];
    return number(dice !== null ? (dice / 1000).toFixed(3) : wrong ? `– (${wrong} ${index.volumes ? (wrong > 1 ? "voxels" : "voxel") : "px"})` : "–");
  }

  /** Dice of every structure in truth or prediction of the slice or scan, those that lose most first. */
  function structureTable(shown) {
    const scores = index.scans[choice.scan].scores;
    const whole = [CLEAN, choice.set].map(set => scores[pairOf(set, choice.target)]);
    const all = [shown.cleanOverlap, shown.overlap, ...whole];
    const loss = place => (whole[0]?.dice[place] ?? 0) - (whole[1]?.dice[place] ?? 0);
    const present = [...index.classes.keys()].filter(place =>
      all.some(overlap => (overlap?.dice[place] ?? overlap?.extra[place] ?? null) !== null));
    const lines = present.sort((a, b) => loss(b) - loss(a) || a - b).map(place => [
      make("th", { scope: "row" }, swatch(index.colours[place]), index.classes[place]),
      ...all.map(overlap => diceCell(overlap, place)),
    ]);
    const name = chosenSet().perturbation;
    const wrong = present.some(place => all.some(overlap => overlap?.extra[place]));
    fillTable("Dice of each structure; those that lose most over the whole scan come first. The colours are those of the label maps."
      + (index.regions ? " Maps show the classes that structures consist of; a structure has the colour of one of them." : "")
      + (shown.unlabelled ? ` Grey in the truth: not labelled, so these ${index.volumes ? "voxels" : "pixels"} count nowhere.` : "")
      + (wrong ? ` –: the truth lacks the structure there, so Dice is undefined; in brackets, the ${index.volumes ? "voxels" : "pixels"} predicted of it.` : ""),
      ["structure", "slice, clean", `slice, ${name}`, "scan, clean", `scan, ${name}`], lines);
  }

  function probabilityTable(shown) {
    const truth = index.scans[choice.scan].truth;
    const order = [...index.classes.keys()].sort((a, b) => shown.answer[b] - shown.answer[a] || a - b);
    const lines = order.map(place => [
      make("th", { scope: "row" }, index.classes[place] + (truth.includes(index.classes[place]) ? " (truth)" : "")),
      number(digits(shown.cleanAnswer[place])),
      number(digits(shown.answer[place])),
    ]);
    fillTable("Probability of each class or finding, the most probable one under the perturbation first.",
      ["class", "clean", chosenSet().perturbation], lines);
  }

  function say() {
    const { perturbation, source } = chosenSet();
    const scan = index.scans[choice.scan];
    const measure = index.segmentation ? "mean Dice" : `probability of the truth (${scan.truth.join(", ") || "no finding"})`;
    const order = worstFirst();
    const under = choice.set === CLEAN ? "" : ` under ${perturbation}${source && ` crafted on ${source}`},`
      + ` ${digits(score(choice.scan, CLEAN))} when clean`;
    parts.said.textContent = `${scan.id}: ${measure} of ${index.targets[choice.target]}`
      + ` ${digits(score(choice.scan))}${under}.`
      + ` Number ${order.indexOf(choice.scan) + 1} of ${order.length}, counted from the worst.`;
  }

  /* ---- the controls ---- */

  function fill(select, options, chosen) {
    select.replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === chosen)));
    select.disabled = options.length < 2;
  }

  function fillControls() {
    const { perturbation } = chosenSet();
    const named = [...new Set(index.sets.map(set => set.perturbation))].filter(name => setsOf(name).length);
    const why = scan => (index.scans[scan].why ? `, ${index.scans[scan].why}` : "");
    fill(parts.case, worstFirst().map(scan => [scan, `${index.scans[scan].id} (${digits(score(scan))}${why(scan)})`]), choice.scan);
    fill(parts.target, index.targets.map((name, place) => [place, name]), choice.target);
    fill(parts.perturbation, named.map(name => [name, name]), perturbation);
    fill(parts.source, setsOf(perturbation).map(set => [set, index.sets[set].source || "–"]), choice.set);
    const [places, name] = [framesOf(choice.scan), index.scans[choice.scan].frames[choice.frame]];
    parts.slice.max = places.length - 1;
    parts.slice.value = places.indexOf(choice.frame);
    parts["slice-name"].textContent = name;
    parts.slice.setAttribute("aria-valuetext", name);
    parts.slices.hidden = places.length < 2;
    fill(parts.plane, planesOf(choice.scan).map(plane => [plane, plane]), choice.plane);
    parts.planes.hidden = !index.volumes;
    parts.labels.hidden = !index.segmentation;
    parts.wiper.hidden = !parts.wipe.checked;
  }

  async function render() {
    const turn = ++drawn;
    fillControls();
    say();
    root.setAttribute("aria-busy", "true");
    try {
      const shown = await picturesOf(choice);
      const seen = await load(shown);
      if (turn !== drawn) return; // another choice was made meanwhile
      parts.panels.replaceChildren(...panels(seen));
      const tall = index.scans[choice.scan].tall[choice.frame];
      for (const canvas of parts.panels.querySelectorAll("canvas")) {
        canvas.style.aspectRatio = `${canvas.width} / ${canvas.height * tall}`;
      }
      if (index.segmentation) structureTable(shown); else probabilityTable(shown);
    } catch (error) {
      if (turn === drawn) parts.said.textContent = `This image cannot be shown: ${error.message}`;
    }
    if (turn === drawn) root.removeAttribute("aria-busy");
  }

  /** Changes the choice, replaces a set that the network does not face, and updates the address. */
  function choose(wish) {
    const { perturbation, source } = chosenSet();
    Object.assign(choice, wish);
    if (!faces(choice.set, choice.target)) choice.set = setLike(perturbation, source);
    const scan = index.scans[choice.scan];
    const address = new URLSearchParams({
      case: scan.id, target: index.targets[choice.target], ...chosenSet(), slice: scan.frames[choice.frame],
    });
    history.replaceState(null, "", `#explorer?${address}`);
    render();
  }

  const planesOf = scan => [...new Set(index.scans[scan].planes)];

  /** Places of a scan's frames; of a volume those in the chosen plane, or in the first if it lacks that. */
  function framesOf(scan) {
    const { frames: names, planes } = index.scans[scan];
    if (!planes.includes(choice.plane)) choice.plane = planes[0] ?? "";
    return [...names.keys()].filter(place => !planes.length || planes[place] === choice.plane);
  }

  function middle(scan) {
    const places = framesOf(scan);
    return places[Math.floor(places.length / 2)];
  }

  /** Shows the slice at a place among those that the slider runs over. */
  function showSlice(at) {
    const places = framesOf(choice.scan);
    choose({ frame: places[Math.min(Math.max(at, 0), places.length - 1)] });
  }

  const stepSlice = by => showSlice(framesOf(choice.scan).indexOf(choice.frame) + by);

  /** Takes the choice from the address; whatever that does not name, or names wrongly, stays. */
  function fromAddress() {
    if (!location.hash.startsWith("#explorer?")) return false;
    const wanted = new URLSearchParams(location.hash.slice("#explorer?".length));
    const found = (list, test, otherwise) => {
      const place = list.findIndex(test);
      return place < 0 ? otherwise : place;
    };
    choice.scan = found(index.scans, scan => scan.id === wanted.get("case"), choice.scan);
    choice.target = found(index.targets, name => name === wanted.get("target"), choice.target);
    const set = found(index.sets, each => each.perturbation === wanted.get("perturbation")
      && each.source === wanted.get("source"), choice.set);
    choice.set = faces(set, choice.target) ? set : CLEAN;
    const { frames: names, planes } = index.scans[choice.scan];
    choice.frame = found(names, name => name === wanted.get("slice"), middle(choice.scan));
    choice.plane = planes[choice.frame] ?? "";
    return true;
  }

  const goTo = scan => choose({ scan, frame: middle(scan) });

  function step(by) {
    const order = worstFirst();
    const scan = order[order.indexOf(choice.scan) + by];
    if (scan !== undefined) goTo(scan);
  }

  function toggle(box) {
    box.checked = !box.checked;
    render();
  }

  const KEYS = {
    ArrowLeft: () => stepSlice(-1),
    ArrowRight: () => stepSlice(1),
    n: () => step(1),
    p: () => step(-1),
    s: () => toggle(parts.wipe),
    l: () => { parts.overlay.value = Number(parts.overlay.value) ? 0 : 50; render(); },
  };

  function listen() {
    parts.case.addEventListener("change", () => goTo(Number(parts.case.value)));
    parts.target.addEventListener("change", () => choose({ target: Number(parts.target.value) }));
    parts.perturbation.addEventListener("change",
      () => choose({ set: setLike(parts.perturbation.value, chosenSet().source) }));
    parts.source.addEventListener("change", () => choose({ set: Number(parts.source.value) }));
    parts.slice.addEventListener("input", () => showSlice(Number(parts.slice.value)));
    parts.plane.addEventListener("change", () => { choice.plane = parts.plane.value; goTo(choice.scan); });
    for (const name of ["overlay", "wipe", "position"]) parts[name].addEventListener("input", render);
    parts.next.addEventListener("click", () => step(1));
    parts.previous.addEventListener("click", () => step(-1));
    root.addEventListener("keydown", event => {
      const native = event.target.matches("select") || (event.target.matches("input") && event.key.startsWith("Arrow"));
      if (native || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
      event.preventDefault();
      KEYS[event.key]();
    });
    window.addEventListener("hashchange", () => { if (fromAddress()) show(); });
  }

  function show() {
    root.scrollIntoView();
    render();
  }

  function start() {
    root.hidden = false;
    const attacked = [...index.sets.keys()].find(set => set !== CLEAN && faces(set, choice.target));
    choice.set = attacked ?? CLEAN;
    choice.scan = worstFirst()[0];
    choice.frame = middle(choice.scan);
    listen();
    if (fromAddress()) show(); else render();
  }

  start();
})();
