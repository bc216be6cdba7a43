"""A recording as labs publish them: an hour of 300 units, 600 trials, LFP of 384 channels, behaviour, many series.

About 160 MB compressed (190 MB at level 0, which is written in a fifth of the time), chunks of 8 MB, as converters
write them. Metadata and data lie interleaved in the file, as pynwb writes them.
"""

import datetime
import warnings
from pathlib import Path

import numpy as np

N_UNITS, N_TRIALS, N_CHANNELS = 300, 600, 384
DURATION, LFP_RATE, LFP_DURATION = 3600.0, 1250.0, 110.0


def write_realistic(path, level=0):
    """Write the recording and return its path, the spike times of every unit and the LFP as stored."""
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.file import Subject

    rng = np.random.default_rng(0)
    start = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    nwb = NWBFile("an hour of three hundred units", "realistic", start, session_id="1", lab="L", institution="I")
    nwb.subject = Subject(subject_id="m1", species="Mus musculus", age="P90D", sex="M")
    group = nwb.create_electrode_group("shank0", "a probe", "CA1", nwb.create_device("probe"))
    nwb.add_electrode_column("label", "name of the channel")
    for k in range(N_CHANNELS):
        where = "CA1" if k < 200 else "VISp"
        nwb.add_electrode(location=where, group=group, rel_x=16.0 * (k % 4), rel_y=20.0 * (k // 2), label=f"ch{k}")
    _add_trials(nwb)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The linked table for DynamicTableRegion")  # it is added a moment later
        spikes = _add_units(nwb, rng, level)
        lfp = _add_series(nwb, rng, level)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    return Path(path), spikes, lfp


def _add_trials(nwb):
    for name in ("choice", "contrast", "reward", "go_cue", "rt"):
        nwb.add_trial_column(name, name)
    for k in range(N_TRIALS):
        begin, reaction = 5 + 5.9 * k, np.nan if k % 17 == 0 else 0.3
        nwb.add_trial(begin, begin + 4, choice=["left", "right"][k % 2], contrast=k % 5 / 4, reward=bool(k % 3),
                      go_cue=begin + 1, rt=reaction)  # fmt: skip


def _add_units(nwb, rng, level):
    from hdmf.backends.hdf5.h5_utils import H5DataIO
    from hdmf.common import ElementIdentifiers, VectorData, VectorIndex
    from pynwb.misc import Units

    rates = rng.lognormal(np.log(6.5), 0.9, N_UNITS)
    rates *= 10 / rates.mean()
    spikes = [np.sort(rng.uniform(0, DURATION, rng.poisson(rate * DURATION))) for rate in rates]
    spikes[7] = np.zeros(0)
    flat, ends = np.concatenate(spikes), np.cumsum([len(times) for times in spikes]).astype(np.uint64)
    packed = H5DataIO(flat, compression="gzip", compression_opts=level, chunks=(1_000_000,))
    each = np.arange(1, N_UNITS + 1)
    times = VectorData(name="spike_times", description="s", data=packed)
    observed = VectorData(name="obs_intervals", description="s", data=np.tile([[0.0, DURATION]], (N_UNITS, 1)))
    columns = [
        times,
        VectorIndex(name="spike_times_index", data=ends, target=times),
        observed,
        VectorIndex(name="obs_intervals_index", data=each, target=observed),
        VectorData(name="quality", description="quality", data=["good"] * N_UNITS),
        VectorData(name="waveform_mean", description="uV", data=rng.normal(size=(N_UNITS, 82, 1)).astype(np.float32)),
    ]
    names = ["spike_times", "obs_intervals", "quality", "waveform_mean"]
    ids = ElementIdentifiers(name="id", data=each - 1)
    nwb.units = Units(name="units", description="sorted", id=ids, columns=columns, colnames=names)
    nwb.units.electrode_table = nwb.electrodes
    rows = [[k] for k in range(N_UNITS)]
    nwb.units.add_column(name="electrodes", description="where", data=rows, index=True, table=True)
    return spikes


def _add_series(nwb, rng, level):
    from hdmf.backends.hdf5.h5_utils import H5DataIO
    from pynwb import TimeSeries
    from pynwb.behavior import BehavioralTimeSeries, Position, SpatialSeries
    from pynwb.ecephys import LFP, ElectricalSeries

    n_samples = int(LFP_RATE * LFP_DURATION)
    slow = np.cumsum(rng.normal(size=(n_samples, 6)).astype(np.float32), 0)
    slow = (slow - slow.mean(0)) / slow.std(0)
    lfp = slow @ rng.normal(size=(6, N_CHANNELS)).astype(np.float32) * 120
    lfp = (lfp + 15 * rng.standard_normal(lfp.shape, dtype=np.float32)).astype(np.int16)
    packed = H5DataIO(lfp, compression="gzip", compression_opts=level, chunks=(62_500, 64))
    everywhere = nwb.create_electrode_table_region(list(range(N_CHANNELS)), "all")
    series = ElectricalSeries(
        name="ElectricalSeriesLFP",
        data=packed,
        electrodes=everywhere,
        rate=LFP_RATE,
        starting_time=0.0,
        conversion=4.69e-6,
    )
    nwb.create_processing_module("ecephys", "LFP").add(LFP(electrical_series=series))
    behavior = nwb.create_processing_module("behavior", "where and how")
    when = np.sort(rng.uniform(0, DURATION, 180_000))
    where = H5DataIO(rng.normal(size=(len(when), 2)), compression="gzip", compression_opts=level)
    timestamps = H5DataIO(when, compression="gzip", compression_opts=level)
    position = Position()
    position.add_spatial_series(SpatialSeries(name="pos", data=where, timestamps=timestamps, reference_frame="x"))
    behavior.add(position)
    many = BehavioralTimeSeries()
    for k in range(20):
        values = H5DataIO(rng.normal(size=36_000), compression="gzip", compression_opts=level)
        many.add_timeseries(TimeSeries(name=f"series{k}", data=values, unit="a.u.", rate=10.0))
    behavior.add(many)
    for k in range(5):
        nwb.add_acquisition(TimeSeries(name=f"acquired{k}", data=rng.normal(size=36_000), unit="V", rate=10.0))
    return lfp


if __name__ == "__main__":
    import sys

    write_realistic(sys.argv[1], level=int(sys.argv[2]))
