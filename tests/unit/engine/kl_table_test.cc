#include "engine/kl_table.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace hob {
namespace {

KlTable example() {
  KlTable t;
  t.n_tok = 192;
  const auto row = [&](PrecisionMode mode, float t1, double kl, double bytes) {
    KlRow r;
    r.mode = mode;
    r.thresholds = {t1, 1.f};
    r.mean_kl = kl;
    r.p99_kl = 10 * kl;
    r.relative_bytes = bytes;
    t.rows.push_back(r);
  };
  row(PrecisionMode::kMixed, 0.9f, 0.001, 0.95);
  row(PrecisionMode::kMixed, 0.5f, 0.02, 0.7);
  row(PrecisionMode::kMixedSkip, 0.7f, 0.015, 0.75);
  row(PrecisionMode::kMixedSkip, 0.6f, 0.05, 0.6);
  return t;
}

TEST(KlTable, FastestBelow) {
  const KlTable t = example();
  EXPECT_EQ(t.fastest(0.0005, {}), nullptr);
  EXPECT_EQ(t.fastest(0.001, {}), &t.rows[0]);  // the bound itself counts
  EXPECT_EQ(t.fastest(0.0199, {}), &t.rows[2]);
  EXPECT_EQ(t.fastest(0.02, {}), &t.rows[1]);
  EXPECT_EQ(t.fastest(1, {}), &t.rows[3]);
  EXPECT_EQ(t.fastest(1, PrecisionMode::kMixed), &t.rows[1]);
  EXPECT_EQ(t.fastest(0.01, PrecisionMode::kMixedSkip), nullptr);
}

TEST(KlTable, ReadsWhatItWrote) {
  const KlTable t = example();
  const std::string text = serialise_kl_table(t);
  const KlTable back = parse_kl_table(text, "x");
  ASSERT_EQ(back.rows.size(), t.rows.size());
  EXPECT_EQ(back.n_tok, t.n_tok);
  for (size_t i = 0; i < t.rows.size(); i++) {
    EXPECT_EQ(back.rows[i].mode, t.rows[i].mode);
    EXPECT_EQ(back.rows[i].thresholds.t1, t.rows[i].thresholds.t1);
    EXPECT_EQ(back.rows[i].mean_kl, t.rows[i].mean_kl);
    EXPECT_EQ(back.rows[i].relative_bytes, t.rows[i].relative_bytes);
  }
  EXPECT_EQ(serialise_kl_table(back), text);
}

TEST(KlTable, RefusesWhatIsNone) {
  const std::string good = serialise_kl_table(example());
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  for (const std::string& bad :
       {std::string(), std::string("n_tok=5"), changed("n_tok=192", "n_tok=0"),
        changed("n_tok=192", "n_tok=-1"), changed("t1,t2", "t2,t1"),
        changed("mixed,0.9", "exact,0.9"), changed("0.9,1,", "0.9,0.8,"),
        changed("0.9,1,", "0.9,1.1,"), changed("0.001", "nan"), changed("0.001", "-1"),
        changed("0.95", "2"), changed("0.95", ""), changed("0.95\n", "0.95,1\n"),
        changed("0.95\n", "0.95\n\n")}) {
    SCOPED_TRACE(bad);
    EXPECT_THROW(parse_kl_table(bad, "x"), Error);
  }
  std::string many = good;
  for (int i = 0; i < 1000; i++) many += good.substr(good.rfind("mixed+skip"));
  EXPECT_THROW(parse_kl_table(many, "x"), Error);
}

}  // namespace
}  // namespace hob
