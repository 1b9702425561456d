"""Near-duplicate questions between training and held-out records, by MinHash."""

import re
from typing import Any

THRESHOLD = 0.8  # Jaccard similarity of word trigrams


def near_duplicates(train: list[tuple[int, str]], held_out: list[tuple[int, str]]) -> list[dict[str, Any]]:
    """(record, text) pairs of each side; {"held_out_record", "train_record", "similarity"} where they nearly agree.

    MinHash finds candidates; the similarity given is then computed exactly.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=64)
    held_shingles = {record: _shingles(text) for record, text in held_out}
    for record, shingles in held_shingles.items():
        index.insert(record, _minhash(MinHash, shingles))
    found = []
    for record, text in train:
        shingles = _shingles(text)
        for candidate in index.query(_minhash(MinHash, shingles)):
            other = held_shingles[candidate]
            similarity = len(shingles & other) / len(shingles | other)
            if similarity >= THRESHOLD:
                found.append({"held_out_record": candidate, "train_record": record, "similarity": round(similarity, 3)})
    return found


def _shingles(text: str) -> frozenset[str]:
    words = re.findall(r"\w+", text.casefold())
    return frozenset(" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2)))


def _minhash(kind: Any, shingles: frozenset[str]) -> Any:
    signature = kind(num_perm=64)
    signature.update_batch([s.encode() for s in shingles])
    return signature
