#include "base/size_parse.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace hob {
namespace {

TEST(SizeParse, UnitsArePowersOf1024) {
  EXPECT_EQ(parse_size("1048576"), 1048576u);
  EXPECT_EQ(parse_size("17B"), 17u);
  EXPECT_EQ(parse_size("64k"), 65536u);
  EXPECT_EQ(parse_size("512M"), 512ull << 20);
  EXPECT_EQ(parse_size("512 MB"), 512ull << 20);
  EXPECT_EQ(parse_size("2G"), 2ull << 30);
  EXPECT_EQ(parse_size("1.5GiB"), 3ull << 29);
  EXPECT_EQ(parse_size(".5g"), 1ull << 29);
  EXPECT_EQ(parse_size("1tib"), 1ull << 40);
  EXPECT_EQ(parse_size("0"), 0u);
}

TEST(SizeParse, RefusesEverythingElse) {
  for (const char* bad : {"", "G", "-1", "1.2.3G", "2X", "2Gx", "2GiBs", "1e9", "0x10", ".",
                          "99999999999T", "111111111111111111111111111", "nan", "inf", "2 G i"})
    EXPECT_THROW(parse_size(bad), Error) << bad;
}

TEST(SizeParse, Formats) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(1023), "1023 B");
  EXPECT_EQ(format_size(1536), "1.50 KiB");
  EXPECT_EQ(format_size(12 << 20), "12.0 MiB");
  EXPECT_EQ(format_size(312ull << 20), "312 MiB");
  EXPECT_EQ(format_size(3ull << 29), "1.50 GiB");
}

}  // namespace
}  // namespace hob
