"""Rows of all pieces, joined to one sorted table each."""

from collections.abc import Iterator

from medrobust.running.attributes import write_attributes
from medrobust.running.embed import embedding_parts
from medrobust.running.evaluate import evaluation_parts, row_table, timing_parts, whole_test_table
from medrobust.running.image_sets import Part
from medrobust.running.pictures import is_left_out, tsne_mark
from medrobust.running.plan import Plan
from medrobust.running.scan_counts import scan_parts
from medrobust.running.selftest import selftest_part
from medrobust.storage import compact
from medrobust.storage.schemas import CRAFTED, EMBEDDINGS, EMPTY_CASES, SELFTEST, SURFACES, TIMING


def join_selftests(plan: Plan) -> None:
    """Join what the self-tests saw."""
    parts = [selftest_part(attack.images) for attack in plan.tested]
    compact(plan.setup.folder, SELFTEST, parts)


def join_rows(plan: Plan) -> None:
    """Join the parts that the jobs left to one sorted table each."""
    setup, targets = plan.setup, plan.targets
    folder, task, bits = setup.folder, setup.study.task, plan.bits
    compact(folder, CRAFTED, _crafted_parts(plan))
    compact(folder, whole_test_table(task), evaluation_parts(plan.whole_test, targets, task, None))
    compact(folder, EMBEDDINGS, _embedding_parts(plan))
    write_attributes(setup)
    if plan.tolerance is not None:
        for table in (SURFACES, EMPTY_CASES):
            compact(folder, table, scan_parts(table, plan.sets, targets, plan.tolerance))
    compact(folder, TIMING, timing_parts(plan.sets, targets, task, bits, folder))
    # Last: a run with these rows is finished.
    compact(folder, row_table(task), evaluation_parts(plan.sets, targets, task, bits))


def _crafted_parts(plan: Plan) -> Iterator[Part]:
    for images in plan.crafted:
        yield from map(images.rows_part, range(len(images.chunks)))


def _embedding_parts(plan: Plan) -> Iterator[Part]:
    for target in plan.targets:
        if not is_left_out(plan.setup.folder, tsne_mark(target)):
            yield from embedding_parts(plan.embedded(target), target)
