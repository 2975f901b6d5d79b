#include "unit/model/naive_backend_util.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "tensor/dequant.h"
#include "tensor/half.h"

namespace hob {
namespace {

using Row = std::vector<float>;

Row weight_row(const Weight& w, int r) {
  Row row(static_cast<size_t>(w.n_cols));
  const size_t bytes = row_bytes(w.dtype, w.n_cols);
  dequantise_row(w.dtype, w.data + static_cast<size_t>(r) * bytes, w.n_cols, row.data());
  if (!w.order) return row;
  Row in_order(row.size());
  for (size_t k = 0; k < row.size(); k++) in_order[static_cast<size_t>(w.order[k])] = row[k];
  return in_order;
}

double dot(const float* a, const float* b, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

float silu(float x) { return x / (1 + std::exp(-x)); }

float gelu(float x) {
  const float cubic = x + 0.044715f * x * x * x;
  return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi_v<float>) * cubic));
}

float gated(GatedUnit unit, float g, float u) {
  switch (unit) {
    case GatedUnit::kSilu:
      return silu(g) * u;
    case GatedUnit::kGelu:
      return gelu(g) * u;
    case GatedUnit::kGeluF16:
      return f16_to_f32(f32_to_f16(gelu(f16_to_f32(f32_to_f16(g))))) * u;
    case GatedUnit::kClampedSilu:
      g = std::min(g, 7.f);
      return g / (1 + std::exp(-1.702f * g)) * (std::clamp(u, -7.f, 7.f) + 1);
  }
  return 0;
}

std::vector<Row> dequantised(const Weight& w) {
  std::vector<Row> rows;
  for (int r = 0; r < w.n_rows; r++) rows.push_back(weight_row(w, r));
  return rows;
}

Row times(const std::vector<Row>& w, const float* x) {
  Row y;
  for (const Row& row : w)
    y.push_back(static_cast<float>(dot(row.data(), x, static_cast<int>(row.size()))));
  return y;
}

void normalise(float* x, int n, const float* w, float eps, float* y) {
  const double scale = 1 / std::sqrt(dot(x, x, n) / n + static_cast<double>(eps));
  for (int i = 0; i < n; i++) y[i] = static_cast<float>(x[i] * scale) * w[i];
}

// Element i of the K or V vector of (slot, head): K coordinate by coordinate, V token by token.
size_t kv_index(const KvLayer& l, int slot, int head, bool is_k, int i) {
  const int d = is_k ? l.d_k : l.d_v, token = slot % kKvBlock;
  const int within = is_k ? i * kKvBlock + token : token * d + i;
  return static_cast<size_t>((slot / kKvBlock * l.n_kv_heads + head) * kKvBlock * d + within);
}

float kv_load(const std::byte* base, KvType type, size_t i) {
  if (type == KvType::kF32) return reinterpret_cast<const float*>(base)[i];
  return f16_to_f32(reinterpret_cast<const uint16_t*>(base)[i]);
}

void kv_store(std::byte* base, KvType type, size_t i, float value) {
  if (type == KvType::kF32)
    reinterpret_cast<float*>(base)[i] = value;
  else
    reinterpret_cast<uint16_t*>(base)[i] = f32_to_f16(value);
}

class NaiveBackend : public Backend {
 public:
  std::string_view isa() const override { return "naive"; }
  int n_threads() const override { return 1; }

  size_t prepared_bytes(DType dtype, int rows, int cols) const override {
    return row_bytes(dtype, cols) * static_cast<size_t>(rows);
  }
  void prepare(DType dtype, int rows, int cols, const std::byte* stock,
               std::byte* dst) const override {
    HOB_CHECK(reinterpret_cast<uintptr_t>(dst) % 64 == 0);
    std::memcpy(dst, stock, prepared_bytes(dtype, rows, cols));
  }
  void embed(const Weight& w, std::span<const int32_t> ids, Mat y) override {
    for (size_t r = 0; r < ids.size(); r++) {
      const Row row = weight_row(w, ids[r]);
      std::copy(row.begin(), row.end(), y.row(static_cast<int>(r)));
    }
  }

  void linear(Mat x, std::span<const LinearOut> outs) override {
    for (const LinearOut& out : outs) {
      HOB_CHECK(x.cols == out.w.n_cols && out.y.cols == out.w.n_rows && out.y.rows == x.rows);
      for (int o = 0; o < out.w.n_rows; o++) {
        const Row w = weight_row(out.w, o);
        for (int r = 0; r < x.rows; r++)
          out.y.row(r)[o] =
              static_cast<float>(dot(w.data(), x.row(r), x.cols)) + (out.bias ? out.bias[o] : 0.f);
      }
    }
  }

  void linear_heads(Mat x, int x_step, const HeadWeights& w, int n_heads, Mat y,
                    int y_step) override {
    for (int h = 0; h < n_heads; h++) {
      Weight own = w.first;
      own.data += static_cast<size_t>(h) * w.stride;
      const std::vector<Row> rows = dequantised(own);
      for (int r = 0; r < x.rows; r++) {
        const Row out = times(rows, x.row(r) + h * x_step);
        std::copy(out.begin(), out.end(), y.row(r) + h * y_step);
      }
    }
  }

  void expert_ffn(Mat x, std::span<const ExpertGroup> groups, GatedUnit act, Mat out) override {
    for (const ExpertGroup& g : groups) {
      const std::vector<Row> gate = dequantised(g.gate), up = dequantised(g.up),
                             down = dequantised(g.down);
      for (size_t i = 0; i < g.rows.size(); i++) {
        const float* in = x.row(g.rows[i]);
        Row hidden = times(gate, in), u = times(up, in);
        for (size_t j = 0; j < hidden.size(); j++) {
          if (g.gate_bias) hidden[j] += g.gate_bias[j];
          if (g.up_bias) u[j] += g.up_bias[j];
          hidden[j] = gated(act, hidden[j], u[j]);
        }
        Row y = times(down, hidden.data());
        if (g.down_bias)
          for (size_t j = 0; j < y.size(); j++) y[j] += g.down_bias[j];
        std::copy(y.begin(), y.end(), out.row(g.out_rows[i]));
      }
    }
  }

  void rms_norm(Mat x, const float* w, float eps, Mat y) override {
    for (int r = 0; r < x.rows; r++) normalise(x.row(r), x.cols, w, eps, y.row(r));
  }
  void norm_input(Mat x, const Norm& norm, Mat y) override {
    for (int r = 0; r < x.rows; r++) {
      double mean = 0, squares = 0;
      for (int i = 0; i < x.cols && norm.centred; i++)
        mean += static_cast<double>(x.row(r)[i]) / x.cols;
      for (int i = 0; i < x.cols; i++)
        squares += std::pow(static_cast<double>(x.row(r)[i]) - mean, 2) / x.cols;
      const double scale = 1 / std::sqrt(squares + static_cast<double>(norm.eps));
      for (int i = 0; i < x.cols; i++)
        y.row(r)[i] = static_cast<float>((x.row(r)[i] - mean) * scale) * norm.w[i] +
                      (norm.bias ? norm.bias[i] : 0.f);
    }
  }
  void rms_norm_heads(Mat x, int n_heads, const float* w, float eps) override {
    const int d = x.cols / n_heads;
    for (int r = 0; r < x.rows; r++)
      for (int h = 0; h < n_heads; h++) normalise(x.row(r) + h * d, d, w, eps, x.row(r) + h * d);
  }
  void rope(Mat x, int n_heads, int d_head, std::span<const int32_t> positions,
            const RopeTable& t) override {
    const int n_pairs = t.d_rot / 2;
    for (int r = 0; r < x.rows; r++) {
      const size_t at =
          static_cast<size_t>(positions[static_cast<size_t>(r)]) * static_cast<size_t>(n_pairs);
      for (int h = 0; h < n_heads; h++)
        for (int i = 0; i < n_pairs; i++) {
          const bool adjacent = t.kind == RopeKind::kAdjacent;
          float* a = x.row(r) + h * d_head + (adjacent ? 2 * i : i);
          float* b = a + (adjacent ? 1 : n_pairs);
          const float c = t.cos[at + static_cast<size_t>(i)],
                      s = t.sin[at + static_cast<size_t>(i)];
          const float a0 = *a, b0 = *b;
          *a = a0 * c - b0 * s;
          *b = a0 * s + b0 * c;
        }
    }
  }

  void kv_write(const KvLayer& l, std::span<const int32_t> slots, Mat k, Mat v) override {
    for (int r = 0; r < k.rows; r++)
      for (int h = 0; h < l.n_kv_heads; h++) {
        const int slot = slots[static_cast<size_t>(r)];
        for (int i = 0; i < l.d_k; i++)
          kv_store(l.k, l.type, kv_index(l, slot, h, true, i), k.row(r)[h * l.d_k + i]);
        for (int i = 0; i < l.d_v; i++)
          kv_store(l.v, l.type, kv_index(l, slot, h, false, i), v.row(r)[h * l.d_v + i]);
      }
  }
  void attention(const KvLayer& l, Mat q, const AttnParams& p, std::span<const AttnRow> rows,
                 Mat out) override {
    const int d_v = p.d_latent_v > 0 ? p.d_latent_v : l.d_v;
    for (int r = 0; r < q.rows; r++) {
      AttnRow row = rows[static_cast<size_t>(r)];
      if (p.window > 0) row.first = std::max(row.first, row.n_visible - p.window);
      for (int h = 0; h < p.n_heads; h++)
        attend(l, q.row(r) + h * l.d_k, h, p, row, out.row(r) + h * d_v);
    }
  }

  void add(Mat x, Mat y) override { add_scaled(x, 1, y); }
  void add_scaled(Mat x, float a, Mat y) override {
    for (int r = 0; r < x.rows; r++)
      for (int i = 0; i < x.cols; i++) y.row(r)[i] += a * x.row(r)[i];
  }
  void scale(float a, Mat x) override {
    for (int r = 0; r < x.rows; r++)
      for (int i = 0; i < x.cols; i++) x.row(r)[i] *= a;
  }

  void route(Mat logits, const RouteRule& rule, int32_t* ids, float* weights) override {
    for (int r = 0; r < logits.rows; r++) {
      const std::vector<double> l(logits.row(r), logits.row(r) + logits.cols);
      rule.kind == Router::kSparseMixer ? mix(l, rule, ids + r * rule.k, weights + r * rule.k)
                                        : choose(l, rule, ids + r * rule.k, weights + r * rule.k);
    }
  }
  void combine(Mat parts, const float* weights, int k, Mat y) override {
    HOB_CHECK(parts.rows == y.rows * k);
    for (int r = 0; r < y.rows; r++)
      for (int i = 0; i < k; i++)
        for (int j = 0; j < y.cols; j++)
          y.row(r)[j] += weights[r * k + i] * parts.row(r * k + i)[j];
  }
  void add_gated(Mat x, Mat gate, Mat y) override {
    for (int r = 0; r < x.rows; r++)
      for (int j = 0; j < x.cols; j++) y.row(r)[j] += x.row(r)[j] / (1 + std::exp(-gate.row(r)[0]));
  }

  size_t scratch_bytes(int, int) const override { return 0; }
  size_t expert_scratch_bytes(int, int, DType) const override { return 0; }
  size_t order_scratch_bytes(int, int) const override { return 0; }

 private:
  static void choose(const std::vector<double>& l, const RouteRule& rule, int32_t* ids,
                     float* weights) {
    std::vector<int32_t> order(l.size());
    std::iota(order.begin(), order.end(), 0);
    const auto at = [&](int32_t e) { return l[static_cast<size_t>(e)]; };
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return at(a) > at(b); });
    double sum = 0, chosen = 0;
    for (const double x : l) sum += std::exp(x - at(order[0]));
    for (int i = 0; i < rule.k; i++)
      chosen += std::exp(at(order[static_cast<size_t>(i)]) - at(order[0]));
    const bool of_chosen = rule.renormalise || rule.kind == Router::kSoftmaxOfChosen;
    for (int i = 0; i < rule.k; i++) {
      ids[i] = order[static_cast<size_t>(i)];
      weights[i] =
          static_cast<float>(std::exp(at(ids[i]) - at(order[0])) / (of_chosen ? chosen : sum)) *
          rule.scale;
    }
  }

  // As transformers writes it: a mask for each of the two choices.
  static void mix(const std::vector<double>& l, const RouteRule& rule, int32_t* ids,
                  float* weights) {
    std::vector<double> left = l;
    for (int i = 0; i < rule.k; i++) {
      const auto best = std::max_element(left.begin(), left.end());
      const double top = *best;
      double sum = 0;
      for (size_t e = 0; e < l.size(); e++) {
        const double distance = (top - l[e]) / std::max(std::abs(l[e]), top);
        if (std::isfinite(left[e]) && distance <= 2 * static_cast<double>(rule.jitter))
          sum += std::exp(left[e] - top);
      }
      ids[i] = static_cast<int32_t>(best - left.begin());
      weights[i] = static_cast<float>(1 / sum) * rule.scale;
      *best = -INFINITY;
    }
  }

  static void attend(const KvLayer& l, const float* q, int head, const AttnParams& params,
                     const AttnRow& row, float* out) {
    const int kv_head = head / (params.n_heads / l.n_kv_heads);
    const bool latent = params.d_latent_v > 0;
    std::vector<double> score;
    for (int p = row.first; p < row.n_visible; p++) {
      double s = 0;
      for (int i = 0; i < l.d_k; i++)
        s += static_cast<double>(q[i]) *
             static_cast<double>(kv_load(l.k, l.type, kv_index(l, row.slots[p], kv_head, true, i)));
      score.push_back(s * static_cast<double>(params.scale));
    }
    const double sink = params.sinks ? static_cast<double>(params.sinks[head]) : -INFINITY;
    const double top = std::max(sink, *std::max_element(score.begin(), score.end()));
    double sum = std::exp(sink - top);
    for (double& s : score) sum += s = std::exp(s - top);
    for (int i = 0; i < (latent ? params.d_latent_v : l.d_v); i++) {
      double y = 0;
      for (size_t p = 0; p < score.size(); p++) {
        const int slot = row.slots[static_cast<size_t>(row.first) + p];
        y += score[p] / sum *
             static_cast<double>(
                 kv_load(latent ? l.k : l.v, l.type, kv_index(l, slot, kv_head, latent, i)));
      }
      out[i] = static_cast<float>(y);
    }
  }
};

}  // namespace

std::unique_ptr<Backend> make_naive_backend() { return std::make_unique<NaiveBackend>(); }

}  // namespace hob
