"""A JPEG file without what does not make its picture: camera data, places, comments, previews, and what follows it."""

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_APP0, _COMMENT = 0xE0, 0xFE
_KEPT = {_APP0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}
"""The applications' segments that say how colours are stored: how each begins, and how many bytes are kept."""


def bare_jpeg(data: bytes) -> bytes:
    """The file's picture, its pixels not decoded. Raises `ValueError` where it is no JPEG file, or is cut off."""
    if data[:2] != bytes([0xFF, _START]):
        raise ValueError("no JPEG file")
    parts, place = [data[:2]], 2
    while True:
        while data[place : place + 2] == b"\xff\xff":  # a marker may be preceded by any number of these
            place += 1
        if len(data) < place + 2 or data[place] != 0xFF:
            raise ValueError("a JPEG file with a marker missing")
        marker = data[place + 1]
        length = 0 if marker == _END or marker in _ALONE else int.from_bytes(data[place + 2 : place + 4], "big")
        end = place + 2 + length
        if len(data) < end:
            raise ValueError("a JPEG file that is cut off")
        if marker == _SCAN:
            end = _end_of_scan(data, end)
        if not (0xE0 <= marker <= 0xEF or marker == _COMMENT):
            parts.append(data[place:end])
        elif marker in _KEPT:
            parts.append(_kept(marker, data[place + 4 : end]))
        if marker == _END:
            return b"".join(parts)
        place = end


def _kept(marker: int, segment: bytes) -> bytes:
    """What is kept of an application's segment: not a preview behind it, and nothing of another application's."""
    start, size = _KEPT[marker]
    if not segment.startswith(start) or len(segment) < size:
        return b""
    segment = segment[:12] + b"\0\0" if marker == _APP0 else segment[:size]  # the preview has 0 x 0 pixels
    return bytes([0xFF, marker]) + (len(segment) + 2).to_bytes(2, "big") + segment


def _end_of_scan(data: bytes, place: int) -> int:
    """Where the coded pixels end, and the next marker begins."""
    while True:
        place = data.find(b"\xff", place)
        if place < 0 or place + 1 >= len(data):
            raise ValueError("a JPEG file that is cut off")
        if data[place + 1] != 0 and data[place + 1] not in _ALONE and data[place + 1] != 0xFF:
            return place
        place += 1 if data[place + 1] == 0xFF else 2
