#pragma once
// How the rows of weight matrices are cut into tasks. Pure.
#include <climits>
#include <span>
#include <vector>

namespace hob {

struct RowChunk {
  int matrix = 0;
  int first = 0, count = 0;  // rows
};

struct RowSplit {
  int n_threads = 1;
  int unit = 16;           // chunks start at multiples of it
  int max_rows = INT_MAX;  // per chunk; a multiple of unit
};

// Guided: every chunk is about remaining / (2 n_threads) rows, so the first ones are long and the
// last ones short. Long chunks stream (a core that starts on a new stretch of memory waits for DRAM
// and for its prefetchers: 2 us chunks ran at 80 % of the speed of 20 us ones); short ones at the
// end let all threads finish together, also when some cores are slower than others (big.LITTLE).
// Every row is in exactly one chunk, chunks are in order.
void split_rows(std::span<const int> n_rows, const RowSplit& split, std::vector<RowChunk>& out);

}  // namespace hob
