#include "base/hash.h"

#include <gtest/gtest.h>

#include <array>

namespace hob {
namespace {

TEST(Hash, PiecesHashLikeTheWhole) {
  std::array<std::byte, 1000> bytes;
  for (size_t i = 0; i < bytes.size(); i++) bytes[i] = static_cast<std::byte>(i * 7);
  Hash64 pieces;
  pieces.add(std::span(bytes).first(1));
  pieces.add({});
  pieces.add(std::span(bytes).subspan(1));
  EXPECT_EQ(pieces.value(), hash64(bytes));
}

// Seed 0 is XXH3 without a seed; the value of no bytes is the one that its specification gives.
TEST(Hash, SeedsGiveHashesOfTheirOwn) {
  const std::array<std::byte, 72> bytes{};
  EXPECT_EQ(hash64({}), 0x2D06800538D394C2u);
  EXPECT_EQ(hash64({}, 0), 0x2D06800538D394C2u);
  EXPECT_EQ(hash64(bytes, 0), hash64(bytes));
  EXPECT_NE(hash64(bytes, 1), hash64(bytes));
  EXPECT_NE(hash64(bytes, 1), hash64(bytes, 2));
}

}  // namespace
}  // namespace hob
