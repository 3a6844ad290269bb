"""Decode with FFmpeg, through PyAV; what is damaged or missing becomes silence.

Time stamps say where samples are missing (`lily.audio.timeline`). Elementary streams have none:
there the bytes between good packets say it (`lily.audio.elementary`). A chained Ogg is decoded link
by link (`lily.audio.ogg`). Source for the formats: libavformat of FFmpeg 8.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, NamedTuple

import av
import numpy as np
from av.codec.context import Flags2

from lily.audio.elementary import clock_of, flac_sample
from lily.audio.frames import FrameReader
from lily.audio.info import AudioInfo, DecodeWarning, clock, within_limits
from lily.audio.ogg import ends_damaged, parts, samples_on_one_page
from lily.audio.timeline import Timeline

# Containers that hold sound themselves. Playlists (HLS, concat, DASH, SDP, IMF) and image sequences
# are left out, since they name other files and addresses, and raw formats, since they take any
# bytes.
CONTAINERS = (
    "3dostr,4xm,aa,aac,aax,ac3,ac4,ace,acm,act,adf,adp,ads,adx,aea,afc,aiff,aix,alp,amr,amrnb,"
    "amrwb,anm,apac,apc,ape,apm,argo_asf,argo_brp,argo_cvg,asf,asf_o,ast,au,avi,avr,"
    "bethsoftvid,bfi,bfstm,bink,binka,boa,bonk,brstm,c93,caf,cdxl,codec2,cri,daud,dcstr,derf,"
    "dhav,dsf,dsicin,dss,dts,dtshd,dv,dxa,ea,ea_cdata,eac3,epaf,film_cpk,flac,flv,fsb,fwse,"
    "g722,g723_1,g729,genh,gsm,gxf,hca,hcom,hnm,iamf,idcin,iff,ifv,ilbc,ipmovie,ipu,ircam,iss,"
    "jv,kux,kvag,laf,lc3,live_flv,lmlm4,loas,luodat,lvf,lxf,matroska,mca,mgsts,mlp,mm,mmf,mods,"
    "moflex,mov,mp3,mpc,mpc8,mpeg,mpegts,msf,msnwctcp,msp,mtaf,mtv,musx,mv,mvi,mxf,mxg,nc,"
    "nistsphere,nsv,nut,nuv,ogg,oma,osq,paf,pmp,pp_bnk,psxstr,pva,pvf,qcp,qoa,r3d,redspark,rka,"
    "rl2,rm,roq,rpl,rsd,rso,sbc,scd,sdns,sdr2,sds,sdx,shn,siff,smk,smjpeg,smush,sol,sox,svag,"
    "svs,swf,tak,thp,tiertexseq,tmv,truehd,tta,txd,ty,usm,vag,vividas,vivo,vmd,voc,vpk,w64,"
    "wady,wav,wavarc,wc3movie,wsaud,wsd,wsvqa,wtv,wv,wve,xa,xmd,xmv,xvag,xwma,yop"
)
PROTOCOLS = "none"  # no such protocol: FFmpeg gets the bytes of the open file and can open no other
# Decoders that know damaged frames by their checksums, but decode them to noise unless asked.
CHECKED = {"ape", "flac", "mlp", "tak", "truehd", "tta", "wavpack"}
ZERO_BASED = ("matroska", "mov")  # their time stamps begin at 0: a later first frame starts late
EXACT = {"aiff", "au", "caf", "flac", "w64", "wav"}  # headers that count samples
DEMUX_ERRORS = 20  # in a row: the demuxer does not find its way back
EARLY_END = 0.01  # of the stated duration; headers round, and some count an encoder's delay
EARLY_END_SECONDS = 0.05

Output = Iterator[AudioInfo | np.ndarray | DecodeWarning]


def read_ffmpeg(file: BinaryIO, name: str) -> Output:
    """Yield the description, then samples and warnings; nothing if FFmpeg decodes no frame.

    The first frame is decoded before the description: only that has the true rate of, say, HE-AAC.
    """
    recording = _Recording(name)
    for part in parts(file):
        container = open_container(part, name)
        if container is None:
            continue
        with container:
            stream = container.streams.best("audio")
            if stream is not None and stream.codec_context is not None:
                yield from recording.add(_Part(part, container, stream))


def open_container(file: BinaryIO, name: str) -> av.container.InputContainer | None:
    """Open a file so that FFmpeg can read nothing else; None if it does not recognise it."""
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": PROTOCOLS}
    file.seek(0)
    try:
        # Tags of old files are in any encoding: that must not refuse the sound.
        return av.open(_Named(file, name), options=options, metadata_errors="surrogateescape")
    except (OSError, ValueError, av.error.FFmpegError):
        return None


class _Named:
    """An open file with a name: FFmpeg recognises some formats by their endings alone."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        ending = name.rpartition(".")[2]
        self.name = f"audio.{ending}" if ending.isascii() and ending.isalnum() else "audio"
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


class Decoded(NamedTuple):
    """A frame, its rate, how many samples of it count, and when it begins in seconds if known."""

    frame: av.AudioFrame
    rate: int
    kept: int
    time: float | None


class _Part:
    """One stream of one container: its frames, and what is known of their place in time."""

    def __init__(
        self, file: BinaryIO, container: av.container.InputContainer, stream: av.AudioStream
    ) -> None:
        self._container, self._stream = container, stream
        self.form = container.format.name.split(",")[0]
        self.codec = stream.codec_context.name
        self._bytes = clock_of(file, self.form)
        stream.codec_context.thread_count = 1
        if self.codec in CHECKED:
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        # Of a Vorbis whose samples are all on one page FFmpeg cuts 128 samples too many, or none.
        short = self.form == "ogg" and self.codec == "vorbis"
        self._samples = samples_on_one_page(file) if short else None
        self.ends_damaged = self.form == "ogg" and ends_damaged(file)
        self._primed = False
        self._block = 0  # samples of a FLAC frame
        # The last frame of an ALAC in CAF is short itself, but FFmpeg cuts it to its length again.
        if self._samples is not None or (self.form, self.codec) == ("caf", "alac"):
            stream.codec_context.flags2 |= Flags2.skip_manual

    def items(self) -> Iterator[Decoded | float | None]:
        """Yield frames; between them how many samples were lost, or None where nothing says it."""
        last, total = None, 0
        for packet, frames in self._packets():
            if frames is None and self._bytes is None:
                yield None
            elif frames is None:
                self._bytes.damaged(packet.pos, packet.size)
            elif self._bytes:
                count = sum(frame.samples for frame in frames)
                lost = self._bytes.lost_before(packet.pos, packet.size, count)
                if lost:
                    if last is not None:
                        yield last
                    last = None
                    yield lost
            for frame in frames or ():
                if self._samples is not None and not self._primed:
                    self._primed = True  # a Vorbis decoder's first output is no sound
                    continue
                if last is not None:
                    yield last
                kept, time = self._kept(frame, total), self._time(packet, frame)
                last = Decoded(frame, self._rate(frame), kept, time)
                total += frame.samples
            if self.codec == "flac" and last is not None and len(frames or ()) > 1:
                # FFmpeg joins frames to one packet where it cannot tell them apart, and skips those
                # with a wrong checksum.
                yield last
                last = None
                yield None
        if last is not None:
            yield last._replace(kept=self._kept_of_last(last))
        if self._bytes:
            yield self._bytes.lost_at_end()

    def _packets(self) -> Iterator[tuple[av.Packet, list[av.AudioFrame] | None]]:
        """Decode packet by packet; None for one that cannot be decoded."""
        errors = 0
        while errors < DEMUX_ERRORS:
            try:
                for packet in self._container.demux(self._stream):
                    try:
                        frames = packet.decode()
                    except (av.error.FFmpegError, ValueError):
                        frames = None if packet.size else []
                    errors = 0
                    yield packet, frames
                return
            except av.error.FFmpegError:
                errors += 1

    def _kept(self, frame: av.AudioFrame, total: int) -> int:
        """How many samples of a frame after `total` others belong to the recording."""
        if self._samples is None:
            return frame.samples
        return min(frame.samples, max(0, self._samples - total))

    def _kept_of_last(self, last: Decoded) -> int:
        frame = last.frame
        if self.form == "mov" and frame.duration and frame.time_base:
            return max(1, round(frame.duration * frame.time_base * frame.sample_rate))
        return last.kept

    def _rate(self, frame: av.AudioFrame) -> int:
        """The rate of a frame: the first one of joined MP3s may bear the last one's."""
        return self._stream.codec_context.sample_rate if self.form == "mp3" else frame.sample_rate

    def _time(self, packet: av.Packet, frame: av.AudioFrame) -> float | None:
        """When a frame begins, in seconds; None if nothing says it."""
        if self._bytes:
            return None
        if self.form == "ogg" and self.codec == "flac":
            # After a lost page FFmpeg counts on; FLAC's frames are numbered themselves.
            self._block = self._block or frame.samples
            number = flac_sample(bytes(packet)[:16], self._block)
            return None if number is None else number / frame.sample_rate
        return frame.time

    @property
    def start(self) -> float | None:
        """The time at which the recording begins; None: with the first frame."""
        if self.form in ZERO_BASED:
            return 0.0
        began = self._container.start_time  # of its earliest stream, a picture perhaps
        return None if began is None or self._bytes else began / av.time_base

    @property
    def stated_seconds(self) -> float | None:
        """The duration by the header; None where that is an estimate or another stream's."""
        streams = [s for s in self._container.streams if s.type in ("audio", "video")]
        if self._bytes or len(streams) > 1:
            return None
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        return self._container.duration / av.time_base if self._container.duration else None


class _Recording:
    """Joins parts, in the format of the first one's first frame."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._info: AudioInfo | None = None

    def add(self, part: _Part) -> Output:
        """Decode a part after those before it."""
        began, lost, damaged, first = False, 0.0, False, 0
        for item in part.items():
            if isinstance(item, Decoded):
                if not began:
                    yield from self._begin(part, item)
                    began, first = True, self._timeline.seconds
                if lost:
                    yield from self._timeline.lose(lost / item.rate)
                elif damaged:
                    self._timeline.damaged()
                lost, damaged = 0.0, False
                rate, seconds = item.rate, self._timeline.seconds
                for piece in self._frames.read(item.frame, item.rate, item.kept, seconds):
                    yield from self._place(piece, item.time)
            elif item is None:
                damaged = True
            else:
                lost += item
        if not began:
            return
        for piece in self._frames.flush():
            yield from self._place(piece, None)
        yield from self._timeline.flush()
        if lost:
            yield from self._timeline.lose(lost / rate)
            damaged = False
        damaged |= part.ends_damaged
        yield from self._end(part, self._timeline.seconds - first, damaged)

    def _begin(self, part: _Part, first: Decoded) -> Output:
        """Start a part; the first one gives the description."""
        if self._info is None:
            rate, channels = first.rate, first.frame.layout.nb_channels
            stated = part.stated_seconds if part.form in EXACT else None
            frames = None if stated is None else round(stated * rate)
            info = AudioInfo(rate, channels, frames, part.form.upper(), part.codec.upper())
            # Before the samples are touched: PyAV counts the planes of many channels wrongly.
            within_limits(self._name, info)
            self._frames = FrameReader(self._name, first.frame, rate)
            self._timeline = Timeline(rate, channels)
            self._info = replace(info, speakers=self._frames.speakers)
            yield self._info
        self._timeline.begin(part.start)

    def _place(self, piece: np.ndarray | DecodeWarning, time: float | None) -> Output:
        if isinstance(piece, DecodeWarning):
            yield piece
        else:
            yield from self._timeline.push(time, piece)

    def _end(self, part: _Part, seconds: float, damaged: bool) -> Output:
        """Report an end that comes before the stated one, or is damaged."""
        stated, ended = part.stated_seconds or 0.0, self._timeline.seconds
        if stated - seconds > max(EARLY_END_SECONDS, EARLY_END * stated):
            text = f"The file states a length of {clock(stated)}, but ends after {clock(seconds)}"
            yield DecodeWarning(f"{text}; its end is missing.", ended)
        elif damaged:
            text = f"The file is damaged at {clock(ended)}; its end is missing."
            yield DecodeWarning(text, ended)
