#include "engine/planner.h"

#include <algorithm>

#include "base/error.h"
#include "base/size_parse.h"

namespace hob {
namespace {

// The kernel keeps 8 bytes of page table per 4 KiB page, charged to the process's cgroup.
constexpr uint64_t kBytesPerPageTableByte = 512;

uint64_t page_tables(uint64_t bytes) { return bytes / kBytesPerPageTableByte; }

// Everything whose size does not depend on the budget, at `rows` rows per step.
uint64_t fixed_bytes(const PlanInput& in, int rows) {
  return in.dense_bytes + in.kv_bytes + in.scratch_bytes(rows) + in.staging_bytes +
         in.base_process_bytes;
}

uint64_t total_with_cache(const PlanInput& in, int rows, uint64_t cache_bytes) {
  const uint64_t bytes = fixed_bytes(in, rows) + cache_bytes;
  return bytes + page_tables(bytes);
}

int smallest_rows(const PlanInput& in) {
  return in.chunk ? std::max(in.chunk, in.min_rows) : std::max(kSmallestChunk, in.min_rows);
}

// The cache that was asked for, or the least that works.
uint64_t smallest_cache(const PlanInput& in) {
  if (!in.experts_bytes) return 0;
  return std::min(in.expert_cache_bytes.value_or(in.smallest_cache_bytes), in.experts_bytes);
}

// Bytes that expert slots can have at `rows` rows per step; 0 when not even the fixed part fits.
uint64_t room_for_experts(const PlanInput& in, int rows) {
  const uint64_t budget = *in.memory_bytes;
  // Solve fixed + cache + (fixed + cache) / 512 = budget for the cache, rounding down.
  const uint64_t usable = budget - budget / (kBytesPerPageTableByte + 1) - 1;
  const uint64_t fixed = fixed_bytes(in, rows);
  return usable > fixed ? usable - fixed : 0;
}

// Chunks to try, largest first: 512, 256, ... 16 (or the one that was asked for).
template <class Accept>
int largest_chunk(const PlanInput& in, Accept accept) {
  const int floor = smallest_rows(in);
  for (int rows = std::max(kDefaultChunk, in.min_rows); rows > floor;
       rows = std::max(rows / 2, floor))
    if (accept(rows)) return rows;
  return floor;
}

// A small budget must not spend its memory on activations: an expert that stays cached saves its
// read in every decoded token, a large chunk saves reads only while prompts are read. So scratch
// gets at most an eighth of what is left after the parts that cannot shrink, unless everything fits
// anyway.
int choose_chunk(const PlanInput& in) {
  if (in.chunk) return std::max(in.chunk, in.min_rows);
  if (!in.memory_bytes) return std::max(kDefaultChunk, in.min_rows);
  const uint64_t wanted =
      in.experts_bytes
          ? std::min(in.expert_cache_bytes.value_or(in.experts_bytes), in.experts_bytes)
          : 0;
  constexpr int kGoodChunk = 128;  // below it, prefill loses more than residency gains
  const int all_fits = largest_chunk(
      in, [&](int rows) { return total_with_cache(in, rows, wanted) <= *in.memory_bytes; });
  const bool fits = total_with_cache(in, all_fits, wanted) <= *in.memory_bytes;
  if (fits && (all_fits >= kGoodChunk || in.expert_cache_bytes || !in.experts_bytes))
    return all_fits;
  const uint64_t after_fixed =
      room_for_experts(in, smallest_rows(in)) + in.scratch_bytes(smallest_rows(in));
  const int modest =
      largest_chunk(in, [&](int rows) { return in.scratch_bytes(rows) <= after_fixed / 8; });
  // The rule above must never make a plan fail that a smaller chunk would let through.
  if (room_for_experts(in, modest) < smallest_cache(in)) return smallest_rows(in);
  return modest;
}

[[noreturn]] void fail_too_small(const PlanInput& in, uint64_t smallest) {
  const int rows = smallest_rows(in);
  std::string parts =
      fmt::format("weights {} + KV cache {} (ctx {}) + scratch {} ({} rows) + process {}",
                  format_size(in.dense_bytes), format_size(in.kv_bytes), in.n_ctx,
                  format_size(in.scratch_bytes(rows)), rows, format_size(in.base_process_bytes));
  if (in.experts_bytes)
    parts += fmt::format(" + expert slots {} + read buffers {}", format_size(smallest_cache(in)),
                         format_size(in.staging_bytes));
  std::string advice;
  if (in.kv_bytes > smallest / 4)
    advice = fmt::format("; --ctx {} would save {}", in.n_ctx / 2, format_size(in.kv_bytes / 2));
  fail(Code::kResourceExhausted, "[plan] expected --memory of at least {} ({} bytes), got {}: {}{}",
       format_size(smallest), smallest, format_size(*in.memory_bytes), parts, advice);
}

void check_cache_request(const PlanInput& in) {
  if (!in.experts_bytes || !in.expert_cache_bytes) return;
  if (*in.expert_cache_bytes < in.smallest_cache_bytes)
    fail(Code::kResourceExhausted,
         "[plan] expected --expert-cache of at least {} ({} bytes, the largest expert), got {} "
         "bytes",
         format_size(in.smallest_cache_bytes), in.smallest_cache_bytes, *in.expert_cache_bytes);
}

}  // namespace

Plan make_plan(const PlanInput& in) {
  check_cache_request(in);
  // Page tables of fractions of a page: one page of slack makes the smallest budget that is named
  // really work.
  const uint64_t smallest = total_with_cache(in, smallest_rows(in), smallest_cache(in)) + 4096;
  if (in.memory_bytes && *in.memory_bytes < smallest) fail_too_small(in, smallest);

  Plan plan;
  plan.budget_bytes = in.memory_bytes.value_or(0);
  plan.smallest_bytes = smallest;
  plan.chunk = choose_chunk(in);
  plan.weights_bytes = in.dense_bytes;
  plan.kv_bytes = in.kv_bytes;
  plan.scratch_bytes = in.scratch_bytes(plan.chunk);
  plan.staging_bytes = in.staging_bytes;
  plan.base_process_bytes = in.base_process_bytes;
  plan.experts_bytes = in.experts_bytes;
  if (in.experts_bytes) {
    uint64_t cache = in.experts_bytes;
    if (in.memory_bytes) cache = std::min(cache, room_for_experts(in, plan.chunk));
    if (in.expert_cache_bytes) cache = std::min(*in.expert_cache_bytes, in.experts_bytes);
    HOB_CHECK(cache >= in.smallest_cache_bytes);
    plan.expert_cache_bytes = cache;
  }
  plan.resident = plan.expert_cache_bytes >= plan.experts_bytes;
  const uint64_t bytes = fixed_bytes(in, plan.chunk) + plan.expert_cache_bytes;
  plan.page_table_bytes = page_tables(bytes);
  plan.peak_bytes = bytes + plan.page_table_bytes;
  HOB_CHECK(!in.memory_bytes || plan.peak_bytes <= *in.memory_bytes);
  return plan;
}

uint64_t base_process_bytes(uint64_t n_vocab_entries, int n_threads) {
  // Measured (2 threads, glibc 2.36): 6.7 MiB resident for a model of two layers. A cgroup also
  // counts what RSS does not: page-cache pages that reading ahead in the program and its libraries
  // brings in (11.7 MiB with a cold cache), and stacks, rings and slabs of the kernel. 22 MiB keeps
  // the peak of a 2 GiB run 8 MiB below the budget.
  constexpr uint64_t kProgram = 22ull << 20;
  // Per vocabulary entry and merge, metadata and tokenizer together: 73 to 84 bytes measured on
  // vocabularies of 32k to 128k entries (`hob tokenize`).
  constexpr uint64_t kPerVocabEntry = 88;
  // Touched stack (about 16 KiB), kernel stack (16 KiB) and what malloc caches per thread.
  constexpr uint64_t kPerThread = 128 << 10;
  return kProgram + kPerVocabEntry * n_vocab_entries +
         kPerThread * static_cast<uint64_t>(n_threads);
}

}  // namespace hob
