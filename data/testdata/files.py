"""Writes testdata/files with pandas, pyarrow, datasets and csv: python files.py
(pyarrow 26.0.1, pandas 3.1.1, datasets 5.2.0, zstandard 0.25.0)."""
import csv, gzip, json, os
import pandas as pd, pyarrow as pa, pyarrow.parquet as pq, zstandard
from datasets import Dataset, DatasetDict

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "files"))
chat = [
    {"messages": [{"role": "user", "content": "U", "n": [1, 2]}, {"role": "assistant", "content": "A"}], "id": 1},
    {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "V\n\"q\""}, {"role": "assistant", "content": "B é"}], "id": 2},
]
for codec in ["none", "snappy", "gzip", "zstd", "brotli", "lz4"]:
    pq.write_table(pa.Table.from_pylist(chat), f"chat.{codec}.parquet", compression=codec, version="1.0" if codec == "gzip" else "2.6")
types = pa.table({
    "text": ["a", None], "flag": [True, False], "i8": pa.array([-1, None], pa.int8()), "u32": pa.array([2**32 - 1, 0], pa.uint32()),
    "f32": pa.array([0.5, None], pa.float32()), "f16": pa.array([1.5, 2.0], pa.float16()), "day": pa.array([0, 19000], pa.date32()),
    "time": pa.array([0, 1700000000123], pa.timestamp("ms", "UTC")), "nano": pa.array([1, -1], pa.timestamp("ns")),
    "money": pa.array(["1.50", "-0.05"]).cast(pa.decimal128(10, 2)), "nothing": pa.nulls(2),
    "lists": pa.array([[[1], [], None], None], pa.list_(pa.list_(pa.int64()))), "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
    "big": pa.array(["x", "y"], pa.large_string()), "dict": pa.array(["p", "p"]).dictionary_encode(), "raw": pa.array([b"\xff", b"ok"]),
    "struct": pa.array([{"a": None, "b": {"c": "d"}}, None], pa.struct([("a", pa.int32()), ("b", pa.struct([("c", pa.string())]))])),
})
pq.write_table(types, "types.parquet")
rows = [{"prompt": f"q{i}", "completion": f"a{i}"} for i in range(5)]
Dataset.from_list(rows).to_parquet("datasets.parquet")
pd.DataFrame(rows).to_parquet("pandas.parquet")
text = "".join(json.dumps(r) + "\n" for r in rows).encode()
open("rows.jsonl.gz", "wb").write(gzip.compress(text, mtime=0))
open("rows.jsonl.zst", "wb").write(zstandard.compress(text))
hard = [{"prompt": 'say "hi"', "completion": "a\tb"}, {"prompt": "two\nlines", "completion": "c;d,e"}, {"prompt": "", "completion": '"'}]
for name, sep in [("pandas.tsv", "\t"), ("pandas.csv", ","), ("semicolon.csv", ";")]:
    pd.DataFrame(hard).to_csv(name, sep=sep, index=False)
pd.DataFrame(hard).to_csv("index.tsv", sep="\t")
for name, quoting in [("excel.tsv", csv.QUOTE_MINIMAL), ("all.tsv", csv.QUOTE_ALL)]:
    with open(name, "w", newline="") as f:
        w = csv.writer(f, dialect="excel-tab", quoting=quoting)
        w.writerow(["prompt", "completion"])
        w.writerows([r["prompt"], r["completion"]] for r in hard)
# as R's write.table(data, "r.tsv", sep = "\t") writes it
open("r.tsv", "w").write('"prompt"\t"completion"\n"1"\t"say \\"hi\\""\t"a\tb"\n"2"\t"two\nlines"\t"c;d,e"\n"3"\t""\t"\\""\n')
