#include "quant/gptq.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "quant/linalg.h"
#include "quant/linalg_axpy.h"

namespace hob {
namespace {

constexpr int kLazyBlock = 128;  // columns whose errors are passed on together: cache, not values
constexpr int kTaskRows = 8;
constexpr double kMaxDamp = 1.0;

size_t at(int row, int col, int cols) {
  return static_cast<size_t>(row) * static_cast<size_t>(cols) + static_cast<size_t>(col);
}

constexpr float kLargestHalf = 65504;  // scales are f16

void check_numbers(std::span<const float> values, float largest, const char* what) {
  for (const float x : values)
    if (!(std::abs(x) <= largest))
      fail(Code::kDataLoss, "[quant] {}: expected numbers of at most {}, found {}", what, largest,
           x);
}

std::vector<int> column_order(std::span<const float> hessian, int cols, bool by_input) {
  std::vector<int> order(static_cast<size_t>(cols));
  std::iota(order.begin(), order.end(), 0);
  const auto size_of = [&](int c) { return hessian[at(c, c, cols)]; };
  if (by_input)
    std::sort(order.begin(), order.end(), [&](int a, int b) {
      return size_of(a) != size_of(b) ? size_of(a) > size_of(b) : a < b;
    });
  return order;
}

// The factor that passes errors on, in the order of elimination. Damping grows until there is one.
std::vector<float> error_factor(std::span<const float> hessian, std::span<const int> order,
                                const GptqParams& params, ThreadPool& pool, GptqReport& report) {
  const auto n = static_cast<int>(order.size());
  std::vector<double> h(hessian.size());
  double mean = 0;
  for (int i = 0; i < n; i++) {
    for (int j = 0; j < n; j++)
      h[at(i, j, n)] = hessian[at(order[static_cast<size_t>(i)], order[static_cast<size_t>(j)], n)];
    if (!(h[at(i, i, n)] > 0)) {
      h[at(i, i, n)] = 1;
      report.n_dead++;
    }
    mean += h[at(i, i, n)] / n;
  }
  double added = 0;
  for (double damp = params.damp; damp <= kMaxDamp; damp = std::max(2 * damp, 1e-4)) {
    for (int i = 0; i < n; i++) h[at(i, i, n)] += damp * mean - added;
    added = damp * mean;
    const auto factor = upper_factor_of_inverse(h, n, pool);
    if (!factor) continue;
    report.damp = damp;
    return {factor->begin(), factor->end()};
  }
  fail(Code::kDataLoss,
       "[quant] Hessian of {} inputs: expected a positive definite matrix once damped, it is not",
       n);
}

// Rows [begin, end) of the matrix, each a problem of its own that the tile solves column by column.
class RowTile {
 public:
  RowTile(std::span<const float> w, std::span<const float> factor, std::span<const int> order,
          const GptqParams& params, QuantisedMatrix& out, int begin, int end)
      : factor_(factor),
        order_(order),
        params_(params),
        out_(out),
        begin_(begin),
        end_(end),
        work_(at(end - begin, 0, out.cols)),
        errors_(at(end - begin, 0, block())) {
    for (int r = 0; r < end - begin; r++)
      for (int c = 0; c < out.cols; c++)
        work_[at(r, c, out.cols)] = w[at(begin + r, order[static_cast<size_t>(c)], out.cols)];
    if (params.act_order) choose_grids(w);
  }

  void run() {
    for (int first = 0; first < out_.cols; first += block()) {
      const int end = std::min(out_.cols, first + block());
      for (int r = 0; r < end_ - begin_; r++) {
        run_block(r, first, end);
        float* const row = &work_[at(r, 0, out_.cols)];
        for (int i = first; i < end; i++)
          add_scaled_to(-errors_[at(r, i - first, block())], &factor_[at(i, 0, out_.cols)] + end,
                        row + end, out_.cols - end);
      }
    }
  }

 private:
  // Whole groups: a grid is chosen when all before its first column has been passed on.
  int block() const {
    return out_.group >= kLazyBlock ? out_.group : kLazyBlock / out_.group * out_.group;
  }

  GroupGrid& grid(int row, int col) {
    return out_.grids[at(begin_ + row, col / out_.group, out_.n_groups())];
  }

  void choose_grids(std::span<const float> w) {
    const auto group = static_cast<size_t>(out_.group);
    for (int r = 0; r < end_ - begin_; r++)
      for (int c = 0; c < out_.cols; c += out_.group)
        grid(r, c) = choose_grid(params_.grid, w.subspan(at(begin_ + r, c, out_.cols), group));
  }

  void run_block(int r, int first, int end) {
    float* const row = &work_[at(r, 0, out_.cols)];
    for (int i = first; i < end; i++) {
      const int col = order_[static_cast<size_t>(i)];
      GroupGrid& g = grid(r, col);
      if (!params_.act_order && i % out_.group == 0)
        g = choose_grid(params_.grid, {row + i, static_cast<size_t>(out_.group)});
      const int code = g.code(row[i]);
      out_.codes[at(begin_ + r, col, out_.cols)] = static_cast<uint8_t>(code);
      const float* const across = &factor_[at(i, 0, out_.cols)];
      const float error = (row[i] - g.value(code)) / across[i];
      errors_[at(r, i - first, block())] = error;
      add_scaled_to(-error, across + i + 1, row + i + 1, end - i - 1);
    }
  }

  std::span<const float> factor_;
  std::span<const int> order_;
  const GptqParams& params_;
  QuantisedMatrix& out_;
  int begin_, end_;
  std::vector<float> work_;    // the weights as they have been moved, columns in `order`
  std::vector<float> errors_;  // of the block's columns
};

template <class F>
void for_row_tiles(int rows, ThreadPool& pool, F&& f) {
  pool.run((rows + kTaskRows - 1) / kTaskRows,
           [&](int task) { f(task * kTaskRows, std::min(rows, (task + 1) * kTaskRows)); });
}

}  // namespace

QuantisedMatrix rtn_quantise(std::span<const float> w, int rows, int cols, const GridParams& grid,
                             ThreadPool& pool, std::span<const float> importance) {
  HOB_CHECK(w.size() == at(rows, 0, cols));
  check_numbers(w, kLargestHalf, "weights");
  QuantisedMatrix out = make_quantised(grid, rows, cols);
  for_row_tiles(rows, pool, [&](int begin, int end) {
    for (size_t i = at(begin, 0, cols); i < at(end, 0, cols);) {
      const auto group = static_cast<size_t>(out.group);
      GroupGrid& g = out.grids[i / group];
      g = choose_grid(grid, w.subspan(i, group),
                      importance.empty()
                          ? importance
                          : importance.subspan(i % static_cast<size_t>(cols), group));
      for (const size_t stop = i + group; i < stop; i++)
        out.codes[i] = static_cast<uint8_t>(g.code(w[i]));
    }
  });
  return out;
}

QuantisedMatrix gptq_quantise(std::span<const float> w, int rows, int cols,
                              std::span<const float> hessian, const GptqParams& params,
                              ThreadPool& pool, GptqReport* report) {
  HOB_CHECK(w.size() == at(rows, 0, cols) && hessian.size() == at(cols, 0, cols));
  if (!(params.damp >= 0 && params.damp <= kMaxDamp))
    fail(Code::kInvalidArgument, "[quant] damp: expected 0 to {}, got {}", kMaxDamp, params.damp);
  check_numbers(w, kLargestHalf, "weights");
  check_numbers(hessian, std::numeric_limits<float>::max(), "Hessian");
  QuantisedMatrix out = make_quantised(params.grid, rows, cols);
  GptqReport found;
  const std::vector<int> order = column_order(hessian, cols, params.act_order);
  const std::vector<float> factor = error_factor(hessian, order, params, pool, found);
  std::vector<float> alive(w.begin(), w.end());
  for (int c = 0; c < cols; c++)
    if (!(hessian[at(c, c, cols)] > 0))
      for (int r = 0; r < rows; r++) alive[at(r, c, cols)] = 0;
  for_row_tiles(rows, pool, [&](int begin, int end) {
    RowTile(alive, factor, order, params, out, begin, end).run();
  });
  if (report) *report = found;
  return out;
}

double output_error(std::span<const float> w, std::span<const float> quantised, int rows, int cols,
                    std::span<const float> hessian, ThreadPool& pool) {
  std::vector<double> of_row(static_cast<size_t>(rows));
  for_row_tiles(rows, pool, [&](int begin, int end) {
    std::vector<float> sum(static_cast<size_t>(cols));
    for (int r = begin; r < end; r++) {
      std::fill(sum.begin(), sum.end(), 0.0f);
      const auto error = [&](int c) { return w[at(r, c, cols)] - quantised[at(r, c, cols)]; };
      for (int c = 0; c < cols; c++)
        add_scaled_to(error(c), &hessian[at(c, 0, cols)], sum.data(), cols);
      double total = 0;
      for (int c = 0; c < cols; c++)
        total += static_cast<double>(error(c)) * static_cast<double>(sum[static_cast<size_t>(c)]);
      of_row[static_cast<size_t>(r)] = total;
    }
  });
  return std::accumulate(of_row.begin(), of_row.end(), 0.0);
}

}  // namespace hob
