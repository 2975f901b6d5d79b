// rms_norm_input() leaves a quantised copy for the products that follow. They must not be able to
// tell it from one made by themselves.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "backend/backend.h"
#include "base/aligned_buffer.h"
#include "tensor/quantise.h"

namespace hob {
namespace {

constexpr int kWidth = 64, kOutputs = 48;

struct Rows {
  Rows(int n, int cols, float phase) : data(static_cast<size_t>(n) * static_cast<size_t>(cols)) {
    for (size_t i = 0; i < data.size(); i++)
      data[i] = std::sin(phase + 0.37f * static_cast<float>(i));
    mat = {data.data(), n, cols, cols};
  }
  std::vector<float> data;
  Mat mat;
};

class NormInput : public ::testing::Test {
 protected:
  NormInput() : backend_(make_cpu_backend({.n_threads = 2, .force_isa = {}})) {
    const Rows w(kOutputs, kWidth, 0.5f);
    std::vector<std::byte> stock(row_bytes(DType::kQ8_0, kWidth) * kOutputs);
    for (int r = 0; r < kOutputs; r++)
      quantise_row(DType::kQ8_0, w.mat.row(r), kWidth,
                   stock.data() + row_bytes(DType::kQ8_0, kWidth) * static_cast<size_t>(r));
    prepared_ = AlignedBuffer(backend_->prepared_bytes(DType::kQ8_0, kOutputs, kWidth));
    backend_->prepare(DType::kQ8_0, kOutputs, kWidth, stock.data(), prepared_.data());
    weight_ = {DType::kQ8_0, kOutputs, kWidth, prepared_.data()};
  }

  std::vector<float> product(Mat x) {
    Rows y(x.rows, kOutputs, 0.f);
    const LinearOut out{weight_, nullptr, y.mat};
    backend_->linear(x, {&out, 1});
    return y.data;
  }
  // By a path that keeps nothing.
  std::vector<float> expected(Mat x, int n) {
    Rows y(n, kWidth, 0.f);
    x.rows = n;
    backend_->rms_norm(x, norm_.data(), 1e-5f, y.mat);
    return product(y.mat);
  }

  std::unique_ptr<Backend> backend_;
  AlignedBuffer prepared_;
  Weight weight_;
  std::vector<float> norm_ = std::vector<float>(kWidth, 1.25f);
};

TEST_F(NormInput, SameBitsAsNormThenQuantise) {
  Rows x(7, kWidth, 1.f), y(7, kWidth, 0.f);
  const std::vector<float> want = expected(x.mat, 7);
  backend_->norm_input(x.mat, {.w = norm_.data(), .eps = 1e-5f}, y.mat);
  EXPECT_EQ(product(y.mat), want);
  EXPECT_EQ(product(y.mat), want);  // a second product of the same block
}

TEST_F(NormInput, FewerRowsOfIt) {
  Rows x(7, kWidth, 1.f), y(7, kWidth, 0.f);
  const std::vector<float> want = expected(x.mat, 3);
  backend_->norm_input(x.mat, {.w = norm_.data(), .eps = 1e-5f}, y.mat);
  Mat first = y.mat;
  first.rows = 3;
  EXPECT_EQ(product(first), want);
}

TEST_F(NormInput, TheNextOneReplacesIt) {
  Rows a(2, kWidth, 1.f), b(5, kWidth, 2.f), y(5, kWidth, 0.f);
  const std::vector<float> want = expected(b.mat, 5);
  Mat two = y.mat;
  two.rows = 2;
  backend_->norm_input(a.mat, {.w = norm_.data(), .eps = 1e-5f}, two);
  backend_->norm_input(b.mat, {.w = norm_.data(), .eps = 1e-5f}, y.mat);
  EXPECT_EQ(product(y.mat), want);
}

TEST_F(NormInput, OtherInputsAreQuantisedAnew) {
  Rows x(2, kWidth, 1.f), y(2, kWidth, 0.f), other(2, kWidth, 3.f);
  const std::vector<float> want = product(other.mat);
  backend_->norm_input(x.mat, {.w = norm_.data(), .eps = 1e-5f}, y.mat);
  EXPECT_EQ(product(other.mat), want);
}

TEST_F(NormInput, DenseFfnIsOneGroupOfAllRows) {
  // Any n of the rows alone give the bits of all together.
  Rows x(6, kWidth, 1.f), y(6, kWidth, 0.f), all(6, kWidth, 0.f), one(6, kWidth, 0.f);
  std::vector<std::byte> raw(row_bytes(DType::kF32, kWidth) * kWidth);
  const Rows w(kWidth, kWidth, 0.25f);
  std::memcpy(raw.data(), w.data.data(), raw.size());
  const Weight square{DType::kF32, kWidth, kWidth, raw.data()};
  const std::vector<int32_t> rows{0, 1, 2, 3, 4, 5};
  backend_->norm_input(x.mat, {.w = norm_.data(), .eps = 1e-5f}, y.mat);
  const ExpertGroup group{
      .gate = square, .up = square, .down = square, .rows = rows, .out_rows = rows};
  backend_->expert_ffn(y.mat, {&group, 1}, GatedUnit::kSilu, all.mat);
  for (size_t r = 0; r < rows.size(); r++) {
    const std::span<const int32_t> row = std::span(rows).subspan(r, 1);
    const ExpertGroup alone{
        .gate = square, .up = square, .down = square, .rows = row, .out_rows = row};
    backend_->expert_ffn(y.mat, {&alone, 1}, GatedUnit::kSilu, one.mat);
  }
  EXPECT_EQ(all.data, one.data);
}

}  // namespace
}  // namespace hob
