"""Every case of a finished run, image by image, on a page of this machine."""
