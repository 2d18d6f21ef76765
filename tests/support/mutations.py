"""Random damage to files: of their bytes, and of what is in them. The same ``Random`` gives the same damage."""

import csv
import io
import json
import math
import struct
import zipfile
import zlib
from copy import deepcopy

import yaml

#: Values that a stranger may write in the place of any other.
VALUES = (
    None, True, False, 0, 1, -1, 3, 0.5, -0.0, 1e-9, 1e308, math.nan, math.inf, -math.inf, 2**31, 2**63, 2**64,
    -(2**70), 10**400, "", "x", "nan", "1e999", "../../x", "\x1b[31m", "\ud800", "\0", "a" * 2000, "/dev/zero",
    "9" * 5000, [], {}, [[]], [None], [1], [0, 0], [-1, -1], [1, 2, 3], [3, 3, 3, 3], [1e9, 1e9], [2**40, 2**40],
    ["a", "b"], [0.0, 0.0, 0.0], [1e-300] * 3, [math.nan] * 3, [[1, 2], [3]], {"a": 1}, {"": {}}, "bicubic",
    "classification", "segmentation", "train", "val",
)  # fmt: skip
#: Bytes and numbers at the edges of their ranges.
_EDGES = (0, 1, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


def damaged_bytes(rng, content):
    """Flip, replace, remove, repeat and insert bytes; mostly near the beginning, where headers are."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not content:
            break
        place = rng.randrange(min(len(content), rng.choice((64, 512, len(content)))))
        kind = rng.randrange(8)
        if kind == 0:
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[place] = rng.randrange(256)
        elif kind == 2:
            content[place : place + rng.randrange(1, 9)] = bytes(rng.choices((0, 127, 128, 255), k=rng.randrange(9)))
        elif kind == 3:
            del content[place : place + rng.randrange(1, 65)]
        elif kind == 4:
            other = rng.randrange(len(content))
            content[place:place] = content[other : other + rng.randrange(1, 64)]
        elif kind == 5:
            del content[place:]
        elif kind == 6:
            width = rng.choice((2, 4, 8))
            number = rng.choice(_EDGES) % (1 << 8 * width)
            content[place : place + width] = number.to_bytes(width, rng.choice(("little", "big")))
        else:
            content[place:place] = rng.randbytes(rng.randrange(1, 32))
    return bytes(content)


def damaged_png(rng, content):
    """Damage a PNG as bytes, or one of its chunks, of which the checksum is made right again."""
    if rng.random() < 0.3:
        return damaged_bytes(rng, content)
    chunks, place = [], 8
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        chunks.append([content[place + 4 : place + 8], content[place + 8 : place + 8 + length]])
        place += length + 12
    chunk = rng.choice(chunks)
    chunk[1] = damaged_bytes(rng, chunk[1])
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), list(rng.choice(chunks)))
    parts = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return content[:8] + b"".join(parts)


def damaged_tree(rng, tree):
    """Replace, remove, add and nest values of a tree of dictionaries and lists, as JSON and YAML have them."""
    root = [json.loads(json.dumps(tree))]
    for _ in range(rng.choice((1, 1, 2, 3))):
        holder, key = rng.choice(list(_places(root)))
        value = holder[key]
        kind = rng.randrange(8)
        if kind == 0 and isinstance(value, dict) and value:
            del value[rng.choice(list(value))]
        elif kind == 1 and isinstance(value, dict):
            value[rng.choice(("x", "size", "class_names", "task", *value))] = _value(rng)
        elif kind == 2 and isinstance(value, list):
            value.insert(rng.randrange(len(value) + 1), _value(rng))
        elif kind == 3 and isinstance(value, list) and value:
            del value[rng.randrange(len(value))]
        elif kind == 4 and isinstance(value, int | float) and -1e9 < value < 1e9:
            holder[key] = rng.choice((-value, value + 1, value - 1, value * 1000, value * 0.001, str(value), [value]))
        elif kind == 5 and rng.random() < 0.3:
            for _ in range(rng.choice((3, 400))):
                value = {"a": value} if isinstance(value, dict) else [value]
            holder[key] = value
        else:
            holder[key] = _value(rng)
    return root[0]


def _value(rng):
    return deepcopy(rng.choice(VALUES))


def _places(holder):
    """Yield the holder and the key of every value below a dictionary or a list."""
    for key, value in list(holder.items() if isinstance(holder, dict) else enumerate(holder)):
        yield holder, key
        if isinstance(value, dict | list):
            yield from _places(value)


def damaged_json(rng, content):
    """Damage JSON as a tree, or, one time in five, as bytes; one in fifty is nested so deeply that parsers give up."""
    if rng.random() < 0.02:
        return b"[" * 100_000 + b"]" * 100_000
    if rng.random() < 0.2:
        return damaged_bytes(rng, content)
    return json.dumps(damaged_tree(rng, json.loads(content))).encode()


def damaged_yaml(rng, content):
    """Damage YAML as a tree, as bytes, or by words that mean something else in YAML than in JSON."""
    if rng.random() < 0.3:
        return damaged_bytes(rng, content)
    tree = damaged_tree(rng, yaml.safe_load(content))
    try:
        text = yaml.safe_dump(tree, allow_unicode=True)
    except (ValueError, RecursionError):  # numbers of more than 4,300 digits, and deep nesting
        return json.dumps(tree).encode()
    if rng.random() < 0.3:
        lines = text.splitlines()
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(_YAML_LINES))
        text = "\n".join(lines)
    return text.encode("utf-8", "surrogatepass")


_YAML_LINES = (
    "epochs: !!python/object/apply:os.system ['true']", "x: &a [*a]", "x: &a {b: *a}", "<<: [1]", "? [1]", "&b : *b",
    "epochs: 2026-12-01", "epochs: !!binary AAAA", "!!set {a}", "---", "%YAML 9.9", "\t", "model: *none", "1: 2",
    "optim: {class_path: antigravity.X}", "data: {class_path: os.system, init_args: {command: 'true'}}", "null: 1",
)  # fmt: skip


def damaged_csv(rng, content):
    """Damage a table as bytes, or by its cells, rows and columns."""
    if rng.random() < 0.3:
        return damaged_bytes(rng, content)
    rows = list(csv.reader(io.StringIO(content.decode())))
    for _ in range(rng.choice((1, 1, 2, 5))):
        row = rng.choice(rows)
        kind = rng.randrange(6)
        if kind == 0 and row:
            del row[rng.randrange(len(row))]
        elif kind == 1:
            row.append(rng.choice(("", "x", '"')))
        elif kind == 2:
            rows.insert(rng.randrange(len(rows)), list(row))
        elif kind == 3 and len(rows) > 1:
            rows.remove(row)
        elif row:
            row[rng.randrange(len(row))] = str(rng.choice(VALUES)) if rng.random() < 0.9 else "\n\r\0\"'"
    text = io.StringIO()
    csv.writer(text, delimiter=rng.choice(",,,;\t"), quoting=rng.choice((0, 0, 1, 3)), escapechar="\\").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def damaged_zip(rng, content, names):
    """Damage a zip archive as bytes, or one of its members of which the name ends in one of ``names``."""
    if rng.random() < 0.3:
        return damaged_bytes(rng, content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    name = rng.choice([each for each in members if each.endswith(names)])
    if rng.random() < 0.05:
        del members[name]
    else:
        members[name] = (damaged_json if name.endswith(".json") else damaged_bytes)(rng, members[name])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return file.getvalue()


def damaged_header(rng, content, *, place, width, align=1):
    """Damage a file as bytes, or by its header of JSON.

    Args:
        rng: draws the damage.
        content: of the file.
        place: of the header's length, which stands right before the header.
        width: of that length, in bytes.
        align: what follows the header begins at a multiple of this.
    """
    if rng.random() < 0.4:
        return damaged_bytes(rng, content)
    start = place + width
    length = int.from_bytes(content[place:start], "little")
    header, end = content[start : start + length], start + length
    header = damaged_json(rng, header)
    rest = content[-(-end // align) * align :]
    changed = content[:place] + len(header).to_bytes(width, "little") + header
    return changed.ljust(-(-len(changed) // align) * align, b"\0") + rest
