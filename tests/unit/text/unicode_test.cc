#include "text/unicode.h"

#include <gtest/gtest.h>

namespace hob {
namespace {

TEST(Unicode, SequenceLengthFollowsTable37) {
  EXPECT_EQ(utf8_sequence_length("a"), 1);
  EXPECT_EQ(utf8_sequence_length("\xC3\xA4"), 2);
  EXPECT_EQ(utf8_sequence_length("\xE2\x82\xAC"), 3);
  EXPECT_EQ(utf8_sequence_length("\xF0\x9F\x9A\x80"), 4);
  for (const std::string cut :
       {"\xC3", "\xE2", "\xE2\x82", "\xF0", "\xF0\x9F", "\xF0\x9F\x9A", ""}) {
    EXPECT_EQ(utf8_sequence_length(cut), -1) << cut.size();
  }
  for (const std::string bad :
       {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC3(", "\xE2(", "\xE2\x82("}) {
    EXPECT_EQ(utf8_sequence_length(bad), 0) << bad;
  }
}

TEST(Unicode, ClassesOfSelectedCharacters) {
  EXPECT_TRUE(rune_of('a').is(Rune::kLower));
  EXPECT_TRUE(rune_of(0x01C5).is(Rune::kUpper));  // titlecase
  EXPECT_TRUE(rune_of(0x4E2D).is(Rune::kLetter));
  EXPECT_FALSE(rune_of(0x4E2D).is(Rune::kUpper | Rune::kLower));
  EXPECT_TRUE(rune_of(0x00BD).is(Rune::kNumber));
  EXPECT_TRUE(rune_of(0x0301).is(Rune::kMark));
  EXPECT_TRUE(rune_of('_').is(Rune::kPunct));
  EXPECT_TRUE(rune_of('$').is(Rune::kSymbol));
  for (const uint32_t space : {0x09u, 0x0Du, 0x20u, 0x85u, 0xA0u, 0x2003u, 0x2028u, 0x3000u}) {
    EXPECT_TRUE(rune_of(space).is(Rune::kSpace)) << space;
  }
  for (const uint32_t other : {0x00u, 0x1Cu, 0x180Eu, 0x200Bu, 0x0378u}) {
    EXPECT_FALSE(rune_of(other).is(Rune::kSpace | Rune::kLetter | Rune::kNumber)) << other;
  }
}

TEST(Unicode, DecodingKeepsEveryByteOfBrokenText) {
  const std::string text = "a\xFF\xC3\xA4\xE2\x82z";
  const RuneText runes = decode_runes(text);
  ASSERT_EQ(runes.size(), 6u);
  EXPECT_EQ(runes.begin_byte, (std::vector<uint32_t>{0, 1, 2, 4, 5, 6, 7}));
  EXPECT_TRUE(runes.runes[1].is(Rune::kInvalid));
  EXPECT_EQ(runes.runes[2].code_point(), 0xE4u);
  EXPECT_TRUE(runes.runes[3].is(Rune::kInvalid));
  EXPECT_TRUE(runes.runes[4].is(Rune::kInvalid));
  EXPECT_EQ(runes.runes[5].code_point(), uint32_t{'z'});
}

TEST(Unicode, AppendAndDecodeAreInverse) {
  for (const uint32_t c :
       {0x00u, 0x7Fu, 0x80u, 0x7FFu, 0x800u, 0xD7FFu, 0xE000u, 0xFFFFu, 0x10000u, 0x10FFFFu}) {
    std::string text;
    append_utf8(c, text);
    const RuneText runes = decode_runes(text);
    ASSERT_EQ(runes.size(), 1u) << c;
    EXPECT_EQ(runes.runes[0].code_point(), c);
    EXPECT_FALSE(runes.runes[0].is(Rune::kInvalid));
  }
}

}  // namespace
}  // namespace hob
