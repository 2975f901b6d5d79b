#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tensor/shape.h"

namespace hob {
namespace {

TEST(DTypeTable, EveryRowIsFoundByIdAndName) {
  std::set<std::string_view> names;
  for (const DTypeInfo& row : dtype_table()) {
    const auto id = static_cast<uint32_t>(row.type);
    EXPECT_EQ(find_dtype(row.name), &row);
    EXPECT_EQ(&dtype_info(row.type), &row);
    if (!is_internal(row.type)) {
      EXPECT_EQ(find_dtype(id), &row);
      EXPECT_EQ(gguf_type_name(id), row.name);
    }
    EXPECT_EQ(row.quantised(), row.block > 1);
    names.insert(row.name);
  }
  EXPECT_EQ(names.size(), 22u);
}

TEST(DTypeTable, UnsupportedTypesHaveNamesButNoRow) {
  const std::pair<uint32_t, std::string_view> cases[] = {
      {4, "Q4_2"},    {5, "Q4_3"},      {9, "Q8_1"},   {15, "Q8_K"},       {16, "IQ2_XXS"},
      {17, "IQ2_XS"}, {19, "IQ1_S"},    {22, "IQ2_S"}, {24, "I8"},         {28, "F64"},
      {29, "IQ1_M"},  {31, "Q4_0_4_4"}, {34, "TQ1_0"}, {36, "IQ4_NL_4_4"}, {38, "IQ4_NL_8_8"},
      {40, "NVFP4"},  {41, "Q1_0"},     {42, "Q2_0"}};
  for (const auto& [id, name] : cases) {
    EXPECT_EQ(find_dtype(id), nullptr) << id;
    EXPECT_EQ(gguf_type_name(id), name);
  }
  EXPECT_EQ(find_dtype("Q9_9"), nullptr);
  EXPECT_EQ(find_dtype(77), nullptr);
  EXPECT_EQ(gguf_type_name(77), "type 77");
  EXPECT_EQ(gguf_type_name(0xFFFFFFFFu), "type 4294967295");
}

TEST(DTypeTable, InternalTypesAreNotForFiles) {
  for (const DType type :
       {DType::kQ2_1, DType::kQ3_0, DType::kG2, DType::kG3, DType::kG4, DType::kG8}) {
    const auto id = static_cast<uint32_t>(type);
    EXPECT_TRUE(is_internal(type));
    EXPECT_EQ(find_dtype(id), nullptr);
    EXPECT_EQ(gguf_type_name(id), "type " + std::to_string(id));
  }
  EXPECT_FALSE(is_internal(DType::kMXFP4));
  EXPECT_EQ(row_bytes(DType::kQ2_1, 1408), 44u * 12);
  EXPECT_EQ(row_bytes(DType::kQ3_0, 96), 3u * 14);
}

TEST(DTypeTable, RowBytes) {
  EXPECT_EQ(row_bytes(DType::kF32, 3), 12u);
  EXPECT_EQ(row_bytes(DType::kQ4_0, 64), 36u);
  EXPECT_EQ(row_bytes(DType::kQ6_K, 2048), 8u * 210);
  EXPECT_EQ(row_bytes(DType::kMXFP4, 0), 0u);
  EXPECT_DEATH(row_bytes(DType::kQ4_0, 31), "n % info.block == 0");
  EXPECT_DEATH(row_bytes(DType::kF32, int64_t{1} << 62), "max");
}

TEST(ShapeTest, RowsColumnsAndText) {
  const Shape shape{64, 1408, 2048};
  EXPECT_EQ(shape.str(), "[64,1408,2048]");
  EXPECT_EQ(shape.cols(), 2048);
  EXPECT_EQ(shape.rows(), 64 * 1408);
  EXPECT_EQ(shape.n_elements(), int64_t{64} * 1408 * 2048);
}

}  // namespace
}  // namespace hob
