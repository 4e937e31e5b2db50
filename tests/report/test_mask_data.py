"""What the report's script is told of masks."""

from dataclasses import replace

from everything.io.results.levels import levels_in
from everything.io.results.mask_filter import MaskFilter
from everything.io.results.reader import Result
from everything.report.mask_data import script_rows
from tests.labelled import disc, records

SIZE = (40, 60)
LEFT, RIGHT = disc(SIZE, (15, 20), 12), disc(SIZE, (45, 20), 12)


def rows_of(*found: Result | None, keep: MaskFilter = MaskFilter()) -> list:  # noqa: B008
    return script_rows(list(found), [[] if one is None else levels_in(one, keep) for one in found])


def test_the_same_mask_has_its_colour_its_row_and_their_iou():
    near = disc(SIZE, (46, 20), 12)
    first = Result("x", SIZE, records([LEFT, RIGHT]))
    other = Result("x", SIZE, records([disc(SIZE, (30, 5), 4), near, disc(SIZE, (30, 35), 4)]))
    mine, theirs = rows_of(first, other)
    assert mine is not None
    assert theirs is not None
    assert [row[1] for row in mine] == [0, 1]
    assert [row[8] for row in mine] == [-1, -1]
    assert [row[1] for row in theirs] == [2, 1, 3]
    assert [row[8] for row in theirs] == [-1, 1, -1]
    iou = (near & RIGHT).sum() / (near | RIGHT).sum()
    assert theirs[1][9] == round(float(iou), 4)


def test_a_folder_without_the_photo_and_one_of_another_size():
    small = Result("x", (9, 9), records([disc((9, 9), (4, 4), 3)]))
    nothing, mine, other = rows_of(None, Result("x", SIZE, records([LEFT])), small)
    assert nothing is None
    assert mine is not None
    assert other is not None
    assert (mine[0][8], other[0][8], other[0][1]) == (-1, -1, 1)


def test_each_mask_has_its_level():
    whole, part = disc(SIZE, (30, 20), 15), disc(SIZE, (30, 20), 6)
    (rows,) = rows_of(Result("x", SIZE, records([part, whole])))
    assert [row[10] for row in rows] == ["part", "whole"]


def test_parts_without_their_wholes_stay_parts():
    parts = Result("x", SIZE, records([LEFT]))
    (rows,) = rows_of(parts, keep=MaskFilter(level="part"))
    assert rows[0][10] == "part"
    (rows,) = rows_of(replace(parts, recipe={"output": {"level": "subpart"}}))
    assert rows[0][10] == "subpart"
    (rows,) = rows_of(replace(parts, recipe={"output": {"level": "nonsense"}}))
    assert rows[0][10] == "whole"
