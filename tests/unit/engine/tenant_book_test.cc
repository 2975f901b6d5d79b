#include "engine/tenant_book.h"

#include <gtest/gtest.h>

namespace hob {
namespace {

TEST(TenantBook, NobodySavesUpTimeWhileAway) {
  TenantBook book;
  const int a = book.enter("a"), b = book.enter("b");
  book.serve(a, 1000);
  book.serve(b, 600);
  const int c = book.enter("c");
  EXPECT_EQ(book.views()[static_cast<size_t>(c)].n_served_rows, 600u);
  book.leave(b);
  book.serve(a, 500);
  book.serve(c, 800);  // 1400
  EXPECT_EQ(book.enter("b"), b);
  EXPECT_EQ(book.views()[static_cast<size_t>(b)].n_served_rows, 1400u);
  // Leaving and coming back does not wash away what one was served either.
  book.leave(a);
  EXPECT_EQ(book.enter("a"), a);
  EXPECT_EQ(book.views()[static_cast<size_t>(a)].n_served_rows, 1500u);
}

TEST(TenantBook, ForgetsIdleTenantsOfManyOnly) {
  TenantBook book;
  const int busy = book.enter("busy");
  book.serve(busy, 7);
  for (int i = 0; i < 5000; i++) {
    const int t = book.enter(std::to_string(i));
    EXPECT_NE(t, busy);
    book.serve(t, 10);
    book.leave(t);
  }
  EXPECT_LE(book.views().size(), 1024u);
  EXPECT_EQ(book.enter("busy"), busy);
  EXPECT_EQ(book.views()[static_cast<size_t>(busy)].n_served_rows, 7u);
}

}  // namespace
}  // namespace hob
