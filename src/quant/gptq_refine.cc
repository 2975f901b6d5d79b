#include "quant/gptq_refine.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "quant/linalg_axpy.h"
#include "tensor/half.h"

namespace hob {
namespace {

constexpr int kTaskRows = 8;
constexpr double kRidge = 1e-9;  // of a diagonal element: groups whose codes are all the same

size_t at(int row, int col, int cols) {
  return static_cast<size_t>(row) * static_cast<size_t>(cols) + static_cast<size_t>(col);
}

// x with a x = b, a symmetric [n, n]; false when it is not positive definite.
bool solve(std::vector<double>& a, std::vector<double>& b, int n) {
  for (int j = 0; j < n; j++) {
    for (int i = j; i < n; i++) {
      double sum = a[at(i, j, n)];
      for (int k = 0; k < j; k++) sum -= a[at(i, k, n)] * a[at(j, k, n)];
      if (i == j && !(sum > 0)) return false;
      a[at(i, j, n)] = i == j ? std::sqrt(sum) : sum / a[at(j, j, n)];
    }
    double sum = b[static_cast<size_t>(j)];
    for (int k = 0; k < j; k++) sum -= a[at(j, k, n)] * b[static_cast<size_t>(k)];
    b[static_cast<size_t>(j)] = sum / a[at(j, j, n)];
  }
  for (int j = n - 1; j >= 0; j--) {
    double sum = b[static_cast<size_t>(j)];
    for (int k = j + 1; k < n; k++) sum -= a[at(k, j, n)] * b[static_cast<size_t>(k)];
    b[static_cast<size_t>(j)] = sum / a[at(j, j, n)];
  }
  return true;
}

// Rows [begin, end): each is a problem of its own, but all of them read the Hessian's rows while
// those are in the cache.
class RowTile {
 public:
  RowTile(std::span<const float> w, std::span<const float> hessian, QuantisedMatrix& q, int begin,
          int end)
      : w_(w),
        h_(hessian),
        q_(q),
        n_(q.cols),
        begin_(begin),
        rows_(end - begin),
        pulls_(at(rows_, 0, n_)),
        targets_(at(rows_, 0, n_)) {
    for (int r = 0; r < rows_; r++) product(&w[at(begin + r, 0, n_)], &targets_[at(r, 0, n_)]);
  }

  void run(int rounds) {
    std::vector<double> loss = losses();
    for (int round = 0; round < rounds; round++) {
      const std::vector<uint8_t> codes(code_row(0), code_row(0) + at(rows_, 0, n_));
      const std::vector<GroupGrid> grids(grid_row(0), grid_row(0) + at(rows_, 0, q_.n_groups()));
      move_codes();
      for (int r = 0; r < rows_; r++) fit_grids(r);
      const std::vector<double> now = losses();
      for (int r = 0; r < rows_; r++) {
        if (now[static_cast<size_t>(r)] <= loss[static_cast<size_t>(r)]) continue;
        std::copy_n(&codes[at(r, 0, n_)], n_, code_row(r));  // f16 was too coarse for it
        std::copy_n(&grids[at(r, 0, q_.n_groups())], q_.n_groups(), grid_row(r));
      }
      loss = losses();
    }
  }

 private:
  uint8_t* code_row(int r) { return &q_.codes[at(begin_ + r, 0, n_)]; }
  GroupGrid* grid_row(int r) { return &q_.grids[at(begin_ + r, 0, q_.n_groups())]; }
  float value(int r, int c) { return grid_row(r)[c / q_.group].value(code_row(r)[c]); }
  float weight(int r, int c) const { return w_[at(begin_ + r, c, n_)]; }

  void product(const float* x, float* y) const {
    std::fill_n(y, n_, 0.0f);
    for (int c = 0; c < n_; c++) add_scaled_to(x[c], &h_[at(c, 0, n_)], y, n_);
  }

  // e H e^T of each row; leaves e H in pulls_.
  std::vector<double> losses() {
    std::vector<double> loss(static_cast<size_t>(rows_));
    std::vector<float> error(static_cast<size_t>(n_));
    for (int r = 0; r < rows_; r++) {
      for (int c = 0; c < n_; c++) error[static_cast<size_t>(c)] = weight(r, c) - value(r, c);
      float* const pull = &pulls_[at(r, 0, n_)];
      product(error.data(), pull);
      for (int c = 0; c < n_; c++)
        loss[static_cast<size_t>(r)] +=
            static_cast<double>(error[static_cast<size_t>(c)]) * static_cast<double>(pull[c]);
    }
    return loss;
  }

  // Column by column: where would this weight be best, all others as they are?
  void move_codes() {
    for (int c = 0; c < n_; c++) {
      const float* const across = &h_[at(c, 0, n_)];
      if (!(across[c] > 0)) continue;
      for (int r = 0; r < rows_; r++) {
        const GroupGrid& g = grid_row(r)[c / q_.group];
        uint8_t& code = code_row(r)[c];
        const float before = g.value(code);
        const int best = g.code(before + pulls_[at(r, c, n_)] / across[c]);
        if (best == code) continue;
        code = static_cast<uint8_t>(best);
        add_scaled_to(before - g.value(best), across, &pulls_[at(r, 0, n_)], n_);
      }
    }
  }

  // Least squares for all scales, and offsets where the kind has free ones, of a row.
  void fit_grids(int r) {
    const bool offsets = q_.kind == GridKind::kOffset;
    const int n_groups = q_.n_groups(), per = offsets ? 2 : 1, n = per * n_groups;
    std::vector<float> level(static_cast<size_t>(n_));  // what the scale is multiplied with
    for (int c = 0; c < n_; c++)
      level[static_cast<size_t>(c)] =
          static_cast<float>(code_row(r)[c] - grid_row(r)[c / q_.group].zero);
    std::vector<double> a(at(n, 0, n)), b(static_cast<size_t>(n));
    for (int c = 0; c < n_; c++) {
      const int i = per * (c / q_.group);
      const auto x = static_cast<double>(level[static_cast<size_t>(c)]);
      const auto target = static_cast<double>(targets_[at(r, c, n_)]);
      b[static_cast<size_t>(i)] += x * target;
      if (offsets) b[static_cast<size_t>(i + 1)] += target;
      for (int g = 0; g < n_groups && per * g <= i; g++) {
        const float *h = &h_[at(c, g * q_.group, n_)],
                    *u = &level[static_cast<size_t>(g * q_.group)];
        float scaled = 0, plain = 0;
        for (int j = 0; j < q_.group; j++) {
          scaled += h[j] * u[j];
          plain += h[j];
        }
        a[at(i, per * g, n)] += x * static_cast<double>(scaled);
        if (!offsets) continue;
        a[at(i, per * g + 1, n)] += x * static_cast<double>(plain);
        a[at(i + 1, per * g, n)] += static_cast<double>(scaled);
        a[at(i + 1, per * g + 1, n)] += static_cast<double>(plain);
      }
    }
    for (int i = 0; i < n; i++) a[at(i, i, n)] = a[at(i, i, n)] * (1 + kRidge) + 1e-30;
    if (!solve(a, b, n)) return;
    for (int g = 0; g < n_groups; g++) store(r, g, &b[static_cast<size_t>(per * g)]);
  }

  void store(int r, int g, const double* fitted) {
    GroupGrid& grid = grid_row(r)[g];
    const auto half = [](double x) { return f16_to_f32(f32_to_f16(static_cast<float>(x))); };
    const float scale = half(fitted[0]);
    if (!(scale > 0) || !std::isfinite(scale)) return;
    const float offset = q_.kind == GridKind::kOffset ? half(fitted[1]) : grid.offset;
    if (!std::isfinite(offset)) return;
    grid.scale = scale;
    grid.offset = offset;
  }

  std::span<const float> w_, h_;
  QuantisedMatrix& q_;
  int n_, begin_, rows_;
  std::vector<float> pulls_;    // (w - quantised) H
  std::vector<float> targets_;  // w H
};

}  // namespace

void refine_quantised(std::span<const float> w, std::span<const float> hessian, double damp,
                      int rounds, QuantisedMatrix& q, ThreadPool& pool) {
  const int n = q.cols;
  HOB_CHECK(w.size() == at(q.rows, 0, n) && hessian.size() == at(n, 0, n));
  std::vector<float> damped(hessian.begin(), hessian.end());
  double mean = 0;
  for (int c = 0; c < n; c++) mean += static_cast<double>(hessian[at(c, c, n)]) / n;
  for (int c = 0; c < n; c++) damped[at(c, c, n)] += static_cast<float>(damp * mean);
  pool.run((q.rows + kTaskRows - 1) / kTaskRows, [&](int task) {
    const int begin = task * kTaskRows;
    RowTile(w, damped, q, begin, std::min(q.rows, begin + kTaskRows)).run(rounds);
  });
}

}  // namespace hob
