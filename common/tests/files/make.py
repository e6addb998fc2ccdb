"""Writes the files of this folder; needs numpy, pandas and pyarrow.

Values that every file repeats: a 3 x 2 matrix [[1, 2], [3, 4], [5, 6]] and the
labels 0, 1, 0.
"""

import numpy as np
import pandas as pd

m = np.array([[1, 2], [3, 4], [5, 6]])
labels = np.array([0, 1, 0])

np.save("f8.npy", m.astype("<f8"))
np.save("f4_fortran.npy", np.asfortranarray(m.astype("<f4")))
np.save("i2_big_endian.npy", m.astype(">i2"))
np.save("i8.npy", -m.astype("<i8"))
np.save("u1.npy", m.astype("u1"))
np.save("bool.npy", labels.astype("?"))
np.save("images.npy", np.arange(12, dtype="<f8").reshape(3, 2, 2))
np.save("complex.npy", m.astype("c16"))
with open("version2.npy", "wb") as f:
    np.lib.format.write_array(f, m.astype("<f8"), version=(2, 0))
np.savez("stored.npz", x=m.astype("<f8"), y=labels)
np.savez_compressed("deflated.npz", x=m.astype("<f8"), y=labels)

frame = pd.DataFrame({
    "a": m[:, 0].astype("f8"),
    "b": m[:, 1].astype("i4"),
    "unsigned": np.array([1, 2, 2**32 - 1], dtype="u4"),
    "flag": labels.astype("?"),
    "species": ["red", "blue", "red"],
    "when": pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"]),
    "y": [0.5, None, 1.5],
})
for compression in ["snappy", "zstd", None]:
    frame.to_parquet(f"{compression or 'plain'}.parquet", compression=compression, row_group_size=2)
pd.DataFrame({"a": [[1.0, 2.0], [3.0]], "y": [0, 1]}).to_parquet("nested.parquet")
