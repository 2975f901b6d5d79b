#pragma once
// Splits one memory budget (DESIGN decision 6). A pure function of sizes: the caller asks layout,
// cache and backend for them (engine/model_session), tests make them up.
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace hob {

// Rows per step while a prompt is read. Large chunks read each expert once for many rows; 512 rows
// of 64 experts top-8 already touch all of them, so more would only cost scratch.
inline constexpr int kDefaultChunk = 512;
inline constexpr int kSmallestChunk = 16;

struct PlanInput {
  std::optional<uint64_t> memory_bytes;        // --memory; nullopt = no limit stated
  std::optional<uint64_t> expert_cache_bytes;  // --expert-cache
  int chunk = 0;                               // rows per step asked for; 0 = choose
  int min_rows = 1;  // a step must hold at least these (sequences that decode together)

  uint64_t dense_bytes = 0;
  uint64_t experts_bytes = 0;         // all experts; 0 = dense model
  uint64_t smallest_cache_bytes = 0;  // one expert of the largest kind
  uint64_t kv_bytes = 0;
  uint64_t kv_bytes_per_ctx_tok = 0;  // for the advice in errors
  int n_ctx = 0;
  uint64_t staging_bytes = 0;       // the loader's buffers; 0 = dense model
  uint64_t base_process_bytes = 0;  // see base_process_bytes()
  std::function<uint64_t(int rows)> scratch_bytes;
};

struct Plan {
  uint64_t budget_bytes = 0;  // 0 = no limit stated
  uint64_t weights_bytes = 0;
  uint64_t kv_bytes = 0;
  uint64_t scratch_bytes = 0;
  uint64_t expert_cache_bytes = 0;  // slots
  uint64_t experts_bytes = 0;       // all experts
  uint64_t staging_bytes = 0;
  uint64_t base_process_bytes = 0;
  uint64_t page_table_bytes = 0;
  uint64_t peak_bytes = 0;      // sum: what the process will reach
  uint64_t smallest_bytes = 0;  // the smallest --memory that works with these options
  bool resident = false;        // every expert stays in memory
  int chunk = 0;                // rows per step
};

// Throws Error(kResourceExhausted), naming the smallest budget that works and what it consists of.
Plan make_plan(const PlanInput& input);

// What the process needs besides weights, KV, scratch and expert slots: program and library pages,
// heap, stacks, the vocabulary (twice: in the file's metadata and in the tokenizer's tables).
uint64_t base_process_bytes(uint64_t n_vocab_entries, int n_threads);

}  // namespace hob
