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
    "efficientvit-sam-l0": (
        409,
        34_816_052,
        "6386edf6c0fad91850edcba3d7e5aad36a203550597620db16ae1bd1c160ffd5",
    ),
    "efficientvit-sam-l1": (
        515,
        47_682_626,
        "cdf4f9affdf31ae6bdb1b59e637993a9d82fb2631f64c497dc90fa48b1ed4485",
    ),
    "efficientvit-sam-l2": (
        645,
        61_372_244,
        "4551d61b144146b0555f6284ded17d0637ba7654bf9e7f8160a0f03b06dabb82",
    ),
    "efficientvit-sam-xl0": (
        455,
        117_011_772,
        "78fdc46d3c16b37738b932fba6cc81e00433f3faed19809280bbb385b298e33b",
    ),
    "efficientvit-sam-xl1": (
        701,
        203_440_990,
        "ed02de40837ecdd668c28b91ef95cd11dc11755c67e05aba85db11901c3b5ca4",
    ),
    "mobilesamv2": (
        439,
        10_140_231,
        "13d30aae849666f363d8340b373ba73453591d6f70d5a6c148a0c69fd2d5310f",
    ),
    "mobilesamv2-efficientvit-l2": (
        645,
        61_372_244,
        "fdc880667e511bb70e258ae60756c8357106d2aa83b24fb4a99f45c44f53e24e",
    ),
    "mobilesamv2-vit-h": (
        594,
        641_090_864,
        "2ad8947769c0caed5a003573b36ad168912c28ff7d54a1e43292158682fca242",
    ),
    "nanosam": (
        270,
        19_905_540,
        "cf7e6351fba886a704de8e9257e3bf52987d1511d0381b7187eb489443d42a96",
    ),
    "efficientsam-ti": (
        278,
        10_223_460,
        "9275f41d5e2a098cea2ad837e80d0371269450ab038ad18e554c69b2d7e5b249",
    ),
    "efficientsam-s": (
        278,
        26_413_284,
        "622c76d102a70c0afa96e402558d8da1063f5da8cecfcc860b181661bc4863f6",
    ),
    "sam2-hiera-t": (
        311,
        31_440_977,
        "4c2fbcf85d637a9546faed3b06e228ff209b1b337c1783e9301fed8b01734022",
    ),
    "sam2-hiera-s": (
        359,
        38_538_833,
        "35faaf773cc51d24103105528ad75ddd549b96b313e925f2184b87f77ce12bbe",
    ),
    "sam2-hiera-b+": (
        455,
        73_328_657,
        "3a8fbb2eee9337604a0459968f5efc296d6e904a5e9c1d5b1431ad2aea181b52",
    ),
    "sam2-hiera-l": (
        743,
        216_925_121,
        "e3249d8a128326c82012b1ca20afe2c0a4c24d2c367c1d61820113b0c9a36154",
    ),
    "sam2.1-hiera-t": (
        311,
        31_440_977,
        "4c2fbcf85d637a9546faed3b06e228ff209b1b337c1783e9301fed8b01734022",
    ),
    "sam2.1-hiera-s": (
        359,
        38_538_833,
        "35faaf773cc51d24103105528ad75ddd549b96b313e925f2184b87f77ce12bbe",
    ),
    "sam2.1-hiera-b+": (
        455,
        73_328_657,
        "3a8fbb2eee9337604a0459968f5efc296d6e904a5e9c1d5b1431ad2aea181b52",
    ),
    "sam2.1-hiera-l": (
        743,
        216_925_121,
        "e3249d8a128326c82012b1ca20afe2c0a4c24d2c367c1d61820113b0c9a36154",
    ),
    "sam-hq-vit-b": (
        339,
        94_806_832,
        "5edc065ef2f592c621cc39d1932768e1b7d6b0c7a6ab35276ef2004c038a2b06",
    ),
    "sam-hq-vit-l": (
        507,
        313_676_336,
        "f64b8b8321cfded925085f01e71a694a505bda8232e646534d59b39302edcba2",
    ),
    "sam-hq-vit-h": (
        619,
        642_686_256,
        "9d169880fedc5ab301d474bc7b4ef862bd9c96e666260f399df091aa78b71064",
    ),
    "sam-hq-vit-tiny": (
        464,
        10_588_743,
        "200c6dd3555fff7b2c866a62ed3ac57f0824f0e19a2f81e017e05330f0a7ccee",
    ),
    "edgetam": (
        833,
        9_167_995,
        "c0b1062a889e1882d6498aaf2744cf01af604b5be022fdaa07dfdeb39eeb521d",
    ),
    "efficienttam-s": (
        298,
        26_550_833,
        "707e19f4e79867c3907371e54a5d04b6c7e28607b8166ebb593d4602a4f4741f",
    ),
    "efficienttam-s-512": (
        298,
        26_550_833,
        "707e19f4e79867c3907371e54a5d04b6c7e28607b8166ebb593d4602a4f4741f",
    ),
    "efficienttam-ti": (
        298,
        10_361_009,
        "5595ed69f47ce51d41070819c4a61d9fefa189f359cdf477c5192b0870503784",
    ),
    "efficienttam-ti-512": (
        298,
        10_361_009,
        "5595ed69f47ce51d41070819c4a61d9fefa189f359cdf477c5192b0870503784",
    ),
}
