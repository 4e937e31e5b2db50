"""Names and shapes of the official checkpoints, boiled down.

Of each variant: tensors, elements, and the SHA-256 over the sorted lines "name [shape]". They were
made from lists of the official code's own state dicts, not from the code under test.
"""

FINGERPRINTS = {
    "sam-vit-b": (
        314,
        93_735_728,
        "8a52dc8da1cd47168964962a4299f26432da2b0759c4b1eeff4fd332da13327e",
    ),
    "sam-vit-l": (
        482,
        312_343_088,
        "0dfaad986a60197584fffb48c91cd89e8481b8bfc33dad80b972316314b45911",
    ),
    "sam-vit-h": (
        594,
        641_090_864,
        "f4662fe8084130a47664eb48134a55136a3c7173fee6835cadfb21604cfd7e2b",
    ),
    "mobilesam": (
        439,
        10_140_231,
        "02a1bb2d36347185fea99978181d1cb8a58a5cda5baa2ab2ebb524c5c898d2f8",
    ),
    "tinysam": (
        439,
        10_140_231,
        "02a1bb2d36347185fea99978181d1cb8a58a5cda5baa2ab2ebb524c5c898d2f8",
    ),
    "repvit-sam": (
        1598,
        27_375_874,
        "b083b07b91111f5b21041cdfc36626b410aeaa19e3dfa7415ff42b98dd1b7b4d",
    ),
    "edgesam": (
        821,
        9_629_466,
        "fa7457f6b0e3a00aa2f2dc0b51f280dc47e6d87febfeafa1c40bfda129880e72",
    ),
    "edgesam-3x": (
        821,
        9_629_466,
        "fa7457f6b0e3a00aa2f2dc0b51f280dc47e6d87febfeafa1c40bfda129880e72",
    ),
    "slimsam-50": (
        314,
        27_962_032,
        "845b0637d06323728b6c778b8660c8f05e60abbb174fe43ca323dac80159ec90",
    ),
    "slimsam-77": (
        314,
        9_723_784,
        "1c6b4e7fda920b03d799aa3ae5b120640688381202503504d39957815eeae7fe",
    ),
}
