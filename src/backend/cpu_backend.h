#pragma once
#include <array>
#include <vector>

#include "backend/act_buffer.h"
#include "backend/backend.h"
#include "backend/row_split.h"
#include "base/thread_pool.h"
#include "kernels/table.h"

namespace hob {

// The CPU implementation: cuts each operation into tasks and calls the kernel table. One engine
// thread calls it (prepare() alone may be called from any thread).
class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const CpuOptions& options);

  std::string_view isa() const override { return kernels_.isa; }
  int n_threads() const override { return pool_.n_threads(); }
  void pin_engine_thread() override { pool_.pin_caller(); }
  std::string warning() const override { return pool_.pin_failure(); }
  size_t prepared_bytes(DType dtype, int rows, int cols) const override;
  void prepare(DType dtype, int rows, int cols, const std::byte* stock,
               std::byte* dst) const override;
  void embed(const Weight& w, std::span<const int32_t> ids, Mat y) override;
  void linear(Mat x, std::span<const LinearOut> outs) override;
  void linear_heads(Mat x, int x_step, const HeadWeights& w, int n_heads, Mat y,
                    int y_step) override;
  void expert_ffn(Mat x, std::span<const ExpertGroup> groups, GatedUnit act, Mat out) override;
  void rms_norm(Mat x, const float* w, float eps, Mat y) override;
  void norm_input(Mat x, const Norm& norm, Mat y) override;
  void rms_norm_heads(Mat x, int n_heads, const float* w, float eps) override;
  void rope(Mat x, int n_heads, int d_head, std::span<const int32_t> positions,
            const RopeTable& table) override;
  void kv_write(const KvLayer& layer, std::span<const int32_t> write_slots, Mat k, Mat v) override;
  void attention(const KvLayer& layer, Mat q, const AttnParams& params,
                 std::span<const AttnRow> rows, Mat out) override;
  void add(Mat x, Mat y) override;
  void add_scaled(Mat x, float a, Mat y) override;
  void scale(float a, Mat x) override;
  void route(Mat logits, const RouteRule& rule, int32_t* ids, float* weights) override;
  void combine(Mat parts, const float* weights, int k, Mat y) override;
  void add_gated(Mat x, Mat gate, Mat y) override;
  size_t scratch_bytes(int n_rows, int d_max) const override;
  size_t expert_scratch_bytes(int n_rows, int d_hidden, DType down) const override;
  size_t order_scratch_bytes(int n_rows, int d_max) const override;

 private:
  // Products of one weight's panels with gathered rows.
  struct GroupTask {
    int group, first, count, token0, n_tokens;
  };
  const ActRow* quantised_rows(Mat x);
  void linear_as_is(Mat x, std::span<const LinearOut> outs);
  void expert_ffn_as_is(Mat x, std::span<const ExpertGroup> groups, GatedUnit act, Mat out);
  // Weights with an order (cpu_ordered.cc).
  void linear_ordered(Mat x, std::span<const LinearOut> outs);
  void expert_ffn_ordered(Mat x, const ExpertGroup& group, GatedUnit act, Mat out);
  Mat ordered(Mat x, const int32_t* order);
  void run_linear(std::span<const LinearOut> outs, int n, const ActRow* acts, int n_apart);
  void linear_task(const LinearOut& out, const ActRow* acts, const float* const* x,
                   const GroupTask& task);
  void expert_hidden(const ExpertGroup& group, GatedUnit act, const GroupTask& task);
  void expert_down(const ExpertGroup& group, const GroupTask& task, Mat out);
  void make_tasks(std::span<const ExpertGroup> groups, int rows_of(const ExpertGroup&), int unit);

  struct RowRange {
    int first, count;
  };
  void make_attention_tasks(std::span<const AttnRow> rows, int n_group);

  const KernelTable& kernels_;
  ThreadPool pool_;
  ActBuffer acts_;                // the input of linear / expert_ffn
  ActBuffer norm_acts_;           // the same of the block that norm_of_ is the input of
  Mat norm_of_;                   // y of the last norm_input, or empty
  ActBuffer hidden_acts_;         // silu(gate) * up, one row per (group, row)
  AlignedBuffer hidden_;          // the same in f32, for float experts
  std::vector<ActRow> gathered_;  // acts_ rows in group order
  std::vector<const float*> gathered_f32_;
  std::vector<int> group_first_;  // first gathered row of each group
  std::vector<int> n_rows_;       // of the matrices of an operation
  std::vector<RowChunk> chunks_;
  std::vector<GroupTask> tasks_;
  std::vector<RowRange> attention_tasks_;
  std::vector<const float*> x_rows_;
  std::vector<LinearOut> head_outs_;
  std::vector<float> ordered_;                     // the input of linear_ordered()
  std::array<std::vector<float>, 4> ordered_ffn_;  // rows of expert_ffn_ordered()
  std::vector<LinearOut> same_order_;
};

}  // namespace hob
