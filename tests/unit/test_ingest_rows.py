"""Rows of a file: which become actions, under which ids, and what is said of the others."""

from __future__ import annotations

import csv
import gzip
import io
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode_bridge.ingest import ContractError, InvalidFile, InvalidRow, load_contract
from omninode_bridge.ingest.csv_file import ROW_CHARS_MAX, open_csv
from omninode_bridge.ingest.rows import Row, RowReader

if TYPE_CHECKING:
    from uuid import UUID

CONTRACT: Final = """\
name: parcel
version: 1
namespace: post
key: "parcel:{number}"
action_type: "{event}"
occurred_at: "{at}"
payload: [place, details]
json_columns: [details]
state_machine: {initial: NEW, states: [NEW], transitions: [], unmatched: keep}
"""
HEADER: Final = "number,event,at,place,details"
GOOD: Final = "17,Posted,2026-03-02T12:00:00+01:00,Delft,"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "parcels.csv"


def read(file: Path, data: bytes | str, contract: str = CONTRACT) -> list[Row | InvalidRow]:
    """Write the file, and read it."""
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    with open_csv(file) as table:
        reader = RowReader(load_contract(contract, "parcel.yaml"), table.header, table.name)
        return list(reader.read(table.records()))


def rows(*lines: str) -> str:
    return "\n".join((HEADER, *lines, ""))


def good(items: list[Row | InvalidRow]) -> list[Row]:
    return [item for item in items if isinstance(item, Row)]


def said(items: list[Row | InvalidRow]) -> list[tuple[int, str]]:
    return [(item.line, item.reason) for item in items if isinstance(item, InvalidRow)]


def ids(items: list[Row | InvalidRow]) -> list[UUID]:
    return [row.action.action_id for row in good(items)]


# -- what becomes an action ------------------------------------------------------------------------


def test_a_row_becomes_an_action_as_the_contract_says(file: Path) -> None:
    (row,) = good(read(file, rows('17,Posted,2026-03-02T12:00:00+01:00,Delft,"{""kg"": 1.5}"')))
    assert row.line == 2
    assert row.action.workflow_key == "parcel:17"
    assert row.action.type == "Posted"
    assert row.action.occurred_at == datetime(2026, 3, 2, 11, tzinfo=UTC)
    assert row.action.payload == {"place": "Delft", "details": {"kg": 1.5}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ("[0.12345678901234567890]", [0.12345678901234568]),
        ("100000000000000000000.0", 1e20),
        ("1E+20", 1e20),
        ('"""99999999999999999999"""', "9" * 20),
    ],
)
def test_an_integer_of_64_bits_is_kept_and_long_decimals_are_floats(
    file: Path, text: str, value: object
) -> None:
    (row,) = good(read(file, rows(GOOD + text)))
    assert row.action.payload["details"] == value
    assert type(row.action.payload["details"]) is type(value)


def test_an_empty_json_column_is_null_and_an_empty_text_is_empty(file: Path) -> None:
    (row,) = good(read(file, rows("17,Posted,2026-03-02T12:00:00Z,,")))
    assert row.action.payload == {"place": "", "details": None}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_and_a_byte_order_mark_and_empty_lines_will_do(file: Path, end: str) -> None:
    data = "\ufeff" + end.join((HEADER, GOOD, "", GOOD, ""))
    items = read(file, data)
    assert [row.line for row in good(items)] == [2, 4]
    assert said(items) == []


def test_text_in_any_script_is_kept(file: Path) -> None:
    (row,) = good(read(file, rows(GOOD.replace("Delft", "Zürich 東京"))))
    assert row.action.payload["place"] == "Zürich 東京"


def test_a_compressed_file_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    data = gzip.compress(rows(GOOD).encode())
    assert len(good(read(tmp_path / "parcels.csv.gz", data))) == 1
    assert len(good(read(tmp_path / "parcels", data))) == 1


def test_columns_the_contract_does_not_name_do_not_matter(file: Path) -> None:
    plain = read(file, rows(GOOD))
    wider = read(file, f"weight,{HEADER}\n3,{GOOD}\n")
    assert ids(plain) == ids(wider)


# -- what does not ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("17,Posted", "has 2 columns, the header has 5"),
        (GOOD + ",", "has 6 columns, the header has 5"),
        ("17,Posted,,Delft,", "the time '' is not ISO 8601"),
        ("17,Posted,yesterday,Delft,", "the time 'yesterday' is not ISO 8601"),
        ("17,Posted,2026-02-30T12:00:00Z,Delft,", "is not ISO 8601"),
        ("17,Posted,2026-03-02T12:00:00,Delft,", "lacks an offset from UTC"),
        ("17,Posted,2026-03-02,Delft,", "lacks an offset from UTC"),
        ("17,Posted,0001-01-01T00:00:00+14:00,Delft,", "is not ISO 8601"),
        (f"17,Posted,{'9' * 100},Delft,", "9..."),
        (GOOD + "{", "column 'details' is not JSON"),
        (GOOD + "NaN", "column 'details' is not JSON"),
        (GOOD + '"""\\ud800"""', "column 'details' is not JSON"),
        (GOOD + "[" * 300 + "]" * 300, "cannot be stored"),
        (
            GOOD + "18446744073709551616",
            "has an integer of more than 64 bits, '18446744073709551616'",
        ),
        (GOOD + "-9223372036854775809", "column 'details' has an integer of more than 64 bits"),
        (GOOD + '"{""a"": [1, {""b"": 99999999999999999999}]}"', "more than 64 bits"),
        (GOOD + "9" * 300, "more than 64 bits, '99999"),
        (GOOD + "[" * 1_000 + "9" * 19 + "]" * 1_000, "cannot be stored"),
        ('17,"Posted"x,2026-03-02T12:00:00Z,Delft,', "not CSV"),
    ],
)
def test_a_row_that_cannot_be_an_action_costs_no_other_row(
    file: Path, row: str, reason: str
) -> None:
    items = read(file, rows(GOOD, row, GOOD))
    assert [row.line for row in good(items)] == [2, 4]
    ((line, actual),) = said(items)
    assert line == 3
    assert reason in actual
    assert str(items[1]) == f"{file}:3: {actual}"


def test_a_row_that_is_not_utf_8_costs_no_other_row(file: Path) -> None:
    bad = GOOD.replace("Delft", "Z\u00fcrich").encode("latin-1")
    items = read(file, b"\n".join((HEADER.encode(), bad, GOOD.encode(), b"")))
    assert said(items) == [(2, "is not UTF-8")]
    assert [row.line for row in good(items)] == [3]


def test_the_line_of_a_row_is_the_one_it_starts_on(file: Path) -> None:
    long = '17,Posted,2026-03-02T12:00:00Z,"Delft,\nat the\n\nmarket",'
    items = read(file, rows(long, GOOD, long + ",", GOOD))
    assert [row.line for row in good(items)] == [2, 6, 11]
    assert [line for line, _ in said(items)] == [7]


def test_a_quote_left_open_costs_the_rows_up_to_where_it_shows(file: Path) -> None:
    opened = '17,"Posted,2026-03-02T12:00:00Z,Delft,'
    items = read(file, rows(opened, GOOD + '"[1]"', GOOD))
    ((line, reason),) = said(items)
    assert line == 2
    assert "seen on line 3" in reason
    assert [row.line for row in good(items)] == [4]
    ((line, reason),) = said(read(file, rows(opened, GOOD)))
    assert line == 2


def test_a_row_that_is_too_long_costs_no_other_row(file: Path) -> None:
    long = GOOD + "x" * ROW_CHARS_MAX
    items = read(file, rows(GOOD, long, GOOD, f'{GOOD}"{long}"', GOOD))
    assert said(items) == [(line, "the row has more than 1,048,576 characters") for line in (3, 5)]
    assert [row.line for row in good(items)] == [2, 4, 6]


@pytest.mark.parametrize("line", ["x" * ROW_CHARS_MAX, "x\n" * ROW_CHARS_MAX])
def test_a_file_ends_where_nobody_knows_where_the_next_row_begins(file: Path, line: str) -> None:
    with pytest.raises(InvalidFile, match=r"parcels\.csv:2: .*is a quote left open") as caught:
        read(file, rows(f'{GOOD}"{line}\n{GOOD}"', GOOD))
    assert caught.value.line == 2


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", ": is empty"),
        (b"\n\n", ": is empty"),
        (b"\xef\xbb\xbf", ": is empty"),
        (HEADER.encode(), ": has a header and no rows"),
        (b"\na,b,a\n1,2,3\n", ":2: the header has 'a' twice"),
        (b"a,\xff\n1,2\n", ":1: the header is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), ":1: the header is not UTF-8"),
        (b'a,"b"c\n1,2\n', ":1: the header: not CSV"),
        (b"a," + b"b" * ROW_CHARS_MAX + b"\n1,2\n", ":1: the header: the row has more than"),
    ],
)
def test_a_file_without_header_or_rows_is_refused(file: Path, data: bytes, message: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        read(file, data)
    assert str(caught.value).startswith(f"{file}{message}")


def test_a_file_that_is_not_there_or_no_file_or_not_gzip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="cannot be read: No such file"), open_csv(tmp_path / "x"):
        pass
    with pytest.raises(InvalidFile, match="is not a file"), open_csv(tmp_path):
        pass
    with pytest.raises(InvalidFile, match="not compressed with gzip, though its name says so"):
        read(tmp_path / "parcels.csv.gz", rows(GOOD))


def test_the_rows_before_a_compressed_file_is_cut_off_are_good(tmp_path: Path) -> None:
    file, many = tmp_path / "parcels.csv.gz", 20_000
    lines = (GOOD.replace("17", str(number)) for number in range(many))
    data = gzip.compress(rows(*lines).encode())
    file.write_bytes(data[: len(data) // 2])
    contract = load_contract(CONTRACT, "parcel.yaml")
    seen: list[Row | InvalidRow] = []
    with open_csv(file) as table:
        items = RowReader(contract, table.header, table.name).read(table.records())
        with pytest.raises(InvalidFile, match="is the file cut off") as caught:
            seen.extend(items)  # what came before the error stays
        assert table.bytes_read == table.bytes_total == len(data) // 2
    assert 0 < len(good(seen)) == len(seen) < many
    assert caught.value.line == len(seen) + 2


def test_a_compressed_file_that_is_damaged_is_refused_from_there(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(rows(GOOD).encode()))
    data[-5] ^= 0xFF  # of the length at its end
    with pytest.raises(InvalidFile, match="cannot be read on"):
        read(tmp_path / "parcels.csv.gz", bytes(data))


@pytest.mark.parametrize(
    ("line", "old", "new"),
    [(4, "{number}", "{nr}"), (5, "{event}", "{nr}"), (6, "{at}", "{nr}"), (7, "[place,", "[nr,")],
)
def test_a_column_the_file_lacks_is_said_with_the_contracts_line(
    file: Path, line: int, old: str, new: str
) -> None:
    with pytest.raises(ContractError) as caught:
        read(file, rows(GOOD), CONTRACT.replace(old, new))
    assert caught.value.line == line
    assert "has no column 'nr'; it has number, event, at, place, details" in caught.value.detail


# -- ids -------------------------------------------------------------------------------------------

records = st.lists(
    st.tuples(
        st.sampled_from(["1", "2"]),
        st.sampled_from(["Posted", "Handed"]),
        st.sampled_from(["2026-03-02T12:00:00Z", "2026-03-02T13:00:00Z"]),
        st.sampled_from(["Delft", ""]),
        st.sampled_from(["", "{}", "[1]"]),
    ),
    min_size=1,
    max_size=12,
)
Record = tuple[str, str, str, str, str]


def written(chosen: list[Record]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([HEADER.split(","), *chosen])
    return text.getvalue()


def ids_of(chosen: list[Record], contract: str = CONTRACT) -> list[UUID]:
    with tempfile.TemporaryDirectory() as folder:
        return ids(read(Path(folder) / "parcels.csv", written(chosen), contract))


@given(records)
def test_every_row_has_an_id_of_its_own_and_the_same_in_each_run(chosen: list[Record]) -> None:
    first = ids_of(chosen)
    assert len(set(first)) == len(chosen)
    assert ids_of(chosen) == first


@given(records, records)
def test_a_file_that_has_grown_keeps_the_ids_of_its_rows(
    before: list[Record], more: list[Record]
) -> None:
    assert ids_of(before + more)[: len(before)] == ids_of(before)


@given(records.flatmap(lambda chosen: st.tuples(st.just(chosen), st.permutations(chosen))))
def test_the_ids_of_a_file_do_not_depend_on_the_order_of_its_rows(
    orders: tuple[list[Record], list[Record]],
) -> None:
    one, other = orders
    assert set(ids_of(one)) == set(ids_of(other))


def test_an_id_tells_contract_key_type_time_and_payload_apart(file: Path) -> None:
    different = [
        GOOD,
        GOOD.replace("17", "18"),
        GOOD.replace("Posted", "Handed"),
        GOOD.replace("12:00", "12:01"),
        GOOD.replace("Delft", "Gouda"),
        GOOD + "0",
    ]
    found = [i for each in different for i in ids(read(file, rows(each)))]
    found += ids(read(file, rows(GOOD), CONTRACT.replace("name: parcel", "name: letter")))
    assert len(set(found)) == len(different) + 1


def test_an_id_does_not_depend_on_how_the_same_is_written(file: Path) -> None:
    same = [
        '17,Posted,2026-03-02T12:00:00+01:00,Delft,"{""a"":1,""b"":2}"',
        '"17",Posted,2026-03-02T11:00:00Z,Delft,"{ ""b"": 2, ""a"": 1 }"',
        '17,Posted,20260302T130000.000+0200,Delft,"{""b"":2,""a"":1}"',
    ]
    assert len({i for each in same for i in ids(read(file, rows(each)))}) == 1
    version_2 = CONTRACT.replace("version: 1", "version: 2")
    assert ids(read(file, rows(GOOD), version_2)) == ids(read(file, rows(GOOD)))


def test_row_ids_are_for_ever(file: Path) -> None:
    # Of a row that somebody has ingested: another id would commit it once more.
    assert [str(i) for i in ids(read(file, rows(GOOD, GOOD)))] == [
        "6966ad61-8603-578f-99bc-cd5e44d62c3f",
        "19167f55-415a-5aca-974a-c2e0dc6b2f5a",
    ]
