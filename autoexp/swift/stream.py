"""Runs one of Swift's data streams to its end, on the calling thread.

Swift's own ``Acquisition.acquire`` does the same with three differences that matter here: it sleeps 5 ms in every turn,
it gives up an exposure of more than a minute although nothing is wrong, and it tells the operator of an error by a
notification of its own, before whoever called it can say what was done about it.
"""

from __future__ import annotations

import time
import typing

from nion.data import DataAndMetadata
from nion.instrumentation import Acquisition

from autoexp.instrument import told_seconds

IDLE_S = 0.0005


def acquire_frame(stream: typing.Any) -> DataAndMetadata.DataAndMetadata | None:
    """Run a stream of one channel; its data, or None if it was aborted.

    Raises:
        Exception: whatever the device raised.
    """
    framer = Acquisition.Framer(Acquisition.DataAndMetadataDataChannel())
    stream.attach_root_data_handler(Acquisition.FramedDataHandler(framer))
    stream.prepare_stream(Acquisition.DataStreamArgs((1,)), [])
    stream.start_stream(Acquisition.DataStreamArgs((1,)))
    try:
        while not stream.is_finished and not stream.is_aborted:
            _turn(stream)
    except Exception:
        stream.is_error = True
        stream.abort_stream()
        raise
    finally:
        stream.finish_stream()
    return None if stream.is_aborted else framer.get_data(stream.channels[0])


def exposure_of(stream: typing.Any) -> float | None:
    """How long a camera's stream, whatever it is wrapped in, is to expose each frame, s; None where it does not tell.

    Swift keeps the parameters of a camera's stream to itself (``camera_base.CameraDataStream``).
    """
    parameters = getattr(stream, "_CameraDataStream__camera_frame_parameters", None)
    exposure_s = told_seconds(getattr(parameters, "exposure", None))
    inner = (exposure_of(source) for source in getattr(stream, "data_streams", ()))
    return exposure_s if exposure_s is not None else next((found for found in inner if found is not None), None)


def _turn(stream: typing.Any) -> None:
    """Hand on what the device has sent, and let it go on."""
    events = stream.get_raw_data_stream_events()
    for reference, event in events:
        source = reference()
        if source is not None and not source.is_finished and not source.is_aborted:
            source.send_raw_data_stream_event_to_data_handler(event)
    stream.process_raw_stream_events(events)
    received = getattr(stream, "handle_data_received", None)  # since 23.8
    if received is not None:
        received([event for _reference, event in events])
    stream.advance_stream()
    if not events:
        time.sleep(IDLE_S)
