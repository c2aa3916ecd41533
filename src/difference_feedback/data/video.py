"""Frames of a video: a film that PyAV reads, or an animation (GIF, WebP, APNG) that Pillow reads.

The frames of a film are numbered in the order of their times, which its packets tell without decoding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from difference_feedback.data.image_files import damage_refused
from difference_feedback.data.image_limits import check_frames, check_memory, open_header
from difference_feedback.data.memory_files import file_in_memory
from difference_feedback.errors import ConfigError, DataError

VideoSource: TypeAlias = "Path | bytes | pa.Buffer"
REFUSED_FILM = 67_108_864
"""A film with more pixels a frame, 8192 x 8192, is not decoded: the decoder keeps many frames at a time."""


class VideoFrame(NamedTuple):
    """A frame, and whether it is the wanted one. Where a file is damaged it is the last good one before it."""

    image: Image.Image
    is_exact: bool


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` of `count` places, evenly spread from the first to the last; all of them where there are not more."""
    if count <= wanted:
        return list(range(count))
    if wanted == 1:
        return [count // 2]
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]


def count_frames(source: VideoSource) -> int:
    """The number of frames of a video, by its packets.

    Raises `DataError` for a file that is no video or is cut off, and `ConfigError` where PyAV is not installed.
    """
    with _animation(source) as animation:
        if animation is not None:
            check_memory(animation)
            frames = int(getattr(animation, "n_frames", 1))
            check_frames(animation, frames)
            return frames
    times = _times(source)
    if not times.of_frames:
        raise DataError("the video has no frames: encode it again.")
    if times.is_cut_off:
        raise DataError(f"the video is cut off after {len(times.of_frames)} frames: copy it again.")
    return len(times.of_frames)


def frame_of(source: VideoSource, index: int) -> VideoFrame:
    """One frame of a video, as its player turns it.

    Raises `DataError` where neither this frame nor one before it can be decoded, and `ConfigError` as `count_frames`.
    """
    with _animation(source) as animation:
        if animation is not None:
            return _frame_of_animation(animation, index)
    times = _times(source).of_frames
    frame, is_exact = _sought(source, times, index), True
    if frame is None:
        frame, is_exact = _from_start(source, times, index)
    if frame is None:
        raise DataError(f"no frame of the video up to the frame {index} can be decoded: encode it again.")
    image: Image.Image = frame.to_image()
    turn = getattr(frame, "rotation", 0) % 360
    return VideoFrame(image.rotate(turn, expand=True) if turn else image, is_exact)


class _Times(NamedTuple):
    of_frames: tuple[int | None, ...]
    """In the order in which frames are shown; None for all where a packet does not tell its time."""
    is_cut_off: bool
    """The file is shorter than its own table of contents says."""


def _times(source: VideoSource) -> _Times:
    if isinstance(source, Path):
        try:
            status = source.stat()
        except (OSError, ValueError):
            raise DataError("there is no such file that can be read: give its path.") from None
        return _times_of_file(source, status.st_mtime_ns, status.st_size)
    return _read_times(source, len(source))


@lru_cache(maxsize=256)
def _times_of_file(path: Path, changed: int, size: int) -> _Times:
    """Kept, since the frames of a film are taken one by one. `changed` tells an old file from a new one."""
    return _read_times(path, size)


def _read_times(source: VideoSource, size: int) -> _Times:
    with _film(source) as (container, stream):
        ends = [entry.pos + entry.size for entry in stream.index_entries] if stream.frames else []
        times = [packet.pts for packet in _packets(container, stream) if packet.size and not packet.is_discard]
        is_guessed = container.format.name == "avi" and stream.codec_context.has_b_frames  # it has no times of frames
        if is_guessed or None in times or len(set(times)) < len(times):
            times = [None] * len(times)
        return _Times(tuple(sorted(times) if None not in times else times), max(ends, default=0) > size)


def _sought(source: VideoSource, times: tuple[int | None, ...], index: int) -> Any:
    """The frame with exactly this time, after a jump to the key frame before it; None where that fails."""
    import av

    wanted = times[index] if index < len(times) else None
    if wanted is None:
        return None
    with _film(source) as (container, stream):
        try:
            container.seek(wanted, stream=stream)
            for nth, packet in enumerate(_packets(container, stream)):
                if nth == 0 and not (packet.is_keyframe and packet.pts is not None and packet.pts <= wanted):
                    return None
                for frame in packet.decode():
                    if frame.pts is None or frame.pts >= wanted:
                        return frame if frame.pts == wanted else None
        except av.FFmpegError:
            pass
    return None


def _from_start(source: VideoSource, times: tuple[int | None, ...], index: int) -> tuple[Any, bool]:
    """The frame of this time or, where frames have other times than packets, of this number; else the last one before
    it. All frames up to it are decoded."""
    import av

    wanted = times[index] if index < len(times) else None
    nth, is_whole = -1, True
    last = of_number = None
    with _film(source) as (container, stream):
        for packet in _packets(container, stream):
            try:
                frames = packet.decode()
            except av.FFmpegError:  # the next ones may be whole
                is_whole = False
                continue
            for frame in frames:
                nth += 1
                if wanted is not None and frame.pts == wanted:
                    return frame, True
                if nth == index:
                    of_number = frame
                is_before = nth < index if wanted is None or frame.pts is None else frame.pts < wanted
                last = frame if is_before or last is None else last
            if wanted is None and of_number is not None:
                return of_number, is_whole
    if of_number is not None and is_whole and nth + 1 == len(times):
        return of_number, True
    return last, False


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a film, as far as they can be read, and the empty one that ends it."""
    import av

    try:
        yield from container.demux(stream)
    except av.FFmpegError:
        return


def _frame_of_animation(animation: Image.Image, index: int) -> VideoFrame:
    """The frame, or the last one before it that can be decoded. Raises `DataError` where there is none."""
    reason: Exception | None = None
    check_frames(animation, index + 1)
    for place in range(index, -1, -1):
        try:
            animation.seek(place)
            check_memory(animation)  # a frame may be larger than the first one
            return VideoFrame(animation.convert("RGBA"), place == index)
        except Exception as error:  # readers of formats raise what they like on damaged frames
            reason = error
    raise DataError(f"the animation is damaged ({reason}): copy it again.")


_ALONE = {"protocol_whitelist": "none"}
"""A file may be a list of others, as those of HLS are: FFmpeg opens none of them, be it here or on the web."""


def _file(source: VideoSource) -> BinaryIO:
    """The opened file. Raises `DataError` for a name that is no regular file."""
    if not isinstance(source, Path):
        return file_in_memory(source)
    try:
        if source.is_file():
            return source.open("rb")
    except (OSError, ValueError):
        pass
    raise DataError("there is no such file that can be read: give its path.")


@contextmanager
def _animation(source: VideoSource) -> Iterator[Any]:
    """The animation that Pillow opens; None for other files. Its errors become a `DataError`."""
    with _file(source) as file:
        with damage_refused():
            try:
                animation = open_header(file)
            except UnidentifiedImageError:  # a film has another format
                animation = None
        if animation is None:
            yield None
            return
        with animation, damage_refused():
            yield animation


@contextmanager
def _film(source: VideoSource) -> Iterator[tuple[Any, Any]]:
    """The container and its first video. Every error of PyAV becomes a `DataError`."""
    try:
        import av
    except ImportError:
        raise ConfigError("videos need PyAV: pip install 'difference-feedback[video]'.") from None
    try:
        with _file(source) as file, av.open(file, container_options=_ALONE) as container:
            if not container.streams.video:
                raise DataError("the file has no video in it: give a film, an animation, or a list of frames.")
            stream = container.streams.video[0]
            if stream.width * stream.height > REFUSED_FILM:
                raise DataError(
                    f"{stream.width} x {stream.height} pixels are more than {REFUSED_FILM:,}: scale it down."
                )
            yield container, stream
    except (DataError, ConfigError):
        raise
    except Exception as error:
        raise DataError(f"the video cannot be read ({error}): encode it again.") from None
