"""The parts of a built data set: the names of its files and the columns of its two tables.

``index.arrow`` is what training opens (memory-mapped); ``audit.arrow`` has the same rows and is opened only to
compare clips with each other: by audits and merges. Both are Arrow IPC files; the index has one record batch, the other
one for every shard.
"""

import pyarrow as pa

SCHEMA_VERSION = 2
INFO, INDEX, AUDIT, ACCOUNTING, PLAN = "dataset.json", "index.arrow", "audit.arrow", "accounting.json", "build.json"

CODES = pa.dictionary(pa.int8(), pa.string())
INDEX_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),  # number of the shard in dataset.json
        ("row", pa.int32()),  # number of the record in the shard
        ("offset", pa.int64()),  # of the frame in the shard, bytes
        ("length", pa.int32()),  # of the data, bytes
        ("id", pa.string()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("recording", pa.string()),
        ("split", CODES),
        ("group", pa.string()),
        ("num_samples", pa.int32()),  # at 16 kHz
        ("num_captions", pa.uint16()),
        ("excluded", CODES),  # why the clip is not used; "" if it is
        ("ladder", pa.int32()),  # rank; -1 outside: no training clip, no captions, or excluded
    ]
)
AUDIT_SCHEMA = pa.schema(
    [
        ("start_s", pa.float32()),  # where the clip starts in its recording; NaN if unknown
        ("place", pa.uint64()),  # hash of the id, by which the ladder is ordered
        ("audio_hash", pa.uint64()),  # BLAKE2b of the stored int16 samples, little endian
        ("caption_hashes", pa.list_(pa.uint64())),  # hash64(0, normalise(caption)) of every caption
        ("fingerprint", pa.list_(pa.uint32())),  # landmarks that survive re-encoding, trimming and gain
        # landmarks that survive changes of speed and pitch as well; null in data sets built before there were any
        ("elastic", pa.list_(pa.uint64())),
    ]
)
ELASTIC = "elastic"  # the one column of AUDIT_SCHEMA that a data set may lack
