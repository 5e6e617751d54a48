# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""A baseline JPEG's entropy-coded data read bit by bit, as ITU-T T.81 (F.2.2) has it: the reference for what a whole file is."""

from __future__ import annotations

Table = dict[tuple[int, int], int]


def is_whole(data: bytes, stray: int = 0) -> bool:
    """Whether the one scan holds the declared number of blocks in valid codes, and at most `stray` whole bytes more."""
    tables: dict[int, Table] = {}
    at = 2
    while True:
        code, size = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at + 4 : at + 2 + size]
        if code == 0xC4:
            tables |= huffman_tables(segment)
        if code == 0xC0:
            height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
            factors = {segment[6 + 3 * n]: (segment[7 + 3 * n] >> 4, segment[7 + 3 * n] & 15) for n in range(segment[5])}
        at += 2 + size
        if code == 0xDA:
            used = [(segment[1 + 2 * n], segment[2 + 2 * n]) for n in range(segment[0])]
            break
    if len(used) == 1:
        units, blocks = -(-width // 8) * -(-height // 8), [used[0][1]]
    else:
        across, down = (8 * max(pair[axis] for pair in factors.values()) for axis in (0, 1))
        units = -(-width // across) * -(-height // down)
        blocks = [table for name, table in used for _ in range(factors[name][0] * factors[name][1])]
    bits, marker = scan_bits(data, at)
    reader = Bits(bits)
    try:
        for _ in range(units):
            for table in blocks:
                read_block(reader, tables[table >> 4], tables[16 | table & 15])
    except (IndexError, KeyError):
        return False
    return marker == 0xD9 and len(bits) - reader.at < 8 * (stray + 1)


def huffman_tables(segment: bytes) -> dict[int, Table]:
    found: dict[int, Table] = {}
    while segment:
        counts, code, table = segment[1:17], 0, {}
        values = iter(segment[17:])
        for length, count in enumerate(counts, 1):
            for _ in range(count):
                table[length, code] = next(values)
                code += 1
            code <<= 1
        found[segment[0]] = table
        segment = segment[17 + sum(counts) :]
    return found


def scan_bits(data: bytes, at: int) -> tuple[list[int], int]:
    """The scan's bits without stuffing, and the marker behind them; -1 where there is none."""
    bits: list[int] = []
    while at < len(data):
        byte = data[at]
        if byte == 255:
            at += 1
            while at < len(data) and data[at] == 255:
                at += 1
            if at >= len(data):
                break
            if data[at]:
                return bits, data[at]
        bits += [byte >> (7 - place) & 1 for place in range(8)]
        at += 1
    return bits, -1


class Bits:
    """A position in a list of bits; reading beyond its end raises IndexError."""

    def __init__(self, bits: list[int]) -> None:
        self.bits, self.at = bits, 0

    def take(self, count: int) -> None:
        self.at += count
        if self.at > len(self.bits):
            raise IndexError

    def symbol(self, table: Table) -> int:
        code = 0
        for length in range(1, 17):
            code = code << 1 | self.bits[self.at]
            self.at += 1
            if (length, code) in table:
                return table[length, code]
        raise KeyError


def read_block(reader: Bits, dc: Table, ac: Table) -> None:
    reader.take(reader.symbol(dc))
    place = 1
    while place < 64:
        symbol = reader.symbol(ac)
        run, size = symbol >> 4, symbol & 15
        if not size and run < 15:
            return
        reader.take(size)
        place += run + 1
