// Ref: research notes, serving §5.2 item 27.
#include "serve/json_body.h"

#include <gtest/gtest.h>

namespace hob {
namespace {

std::string error_of(const std::string& body, const JsonLimits& limits = {}) {
  try {
    parse_json_object(body, limits);
  } catch (const ApiError& e) {
    EXPECT_EQ(e.status, 400);
    return e.what();
  }
  return "";
}

#define EXPECT_REFUSED(body, part) \
  EXPECT_NE(error_of(body).find(part), std::string::npos) << error_of(body)

TEST(JsonBody, GoodOnesPass) {
  EXPECT_EQ(error_of(R"({"a":[1,2.5,-3,true,null,"\u00e4\ud83d\ude00"],"b":{}})"), "");
  EXPECT_EQ(error_of("  {\n}\t"), "");
  EXPECT_EQ(parse_json_object(R"({"n":18446744073709551615})")["n"], UINT64_MAX);
}

TEST(JsonBody, Item27InvalidJson) {
  EXPECT_REFUSED("", "empty");
  EXPECT_REFUSED(" \n", "empty");
  EXPECT_REFUSED("{", "at byte");
  EXPECT_REFUSED("{'a':1}", "at byte");
  EXPECT_REFUSED("{\"a\":1,}", "at byte");
  EXPECT_REFUSED("{\"a\":01}", "at byte");
  EXPECT_REFUSED("{/* no */}", "at byte");
  EXPECT_REFUSED("[1]", "a list of 1");
  EXPECT_REFUSED("\"text\"", "got \"text\"");
}

TEST(JsonBody, Item27TrailingGarbage) {
  EXPECT_REFUSED("{}x", "at byte");
  EXPECT_REFUSED("{}{}", "at byte");
  EXPECT_REFUSED(std::string("{}\0", 3), "at byte");
}

TEST(JsonBody, Item27ByteOrderMarkIsIgnored) { EXPECT_EQ(error_of("\xEF\xBB\xBF{}"), ""); }

TEST(JsonBody, Item27HalfAByteOrderMark) { EXPECT_REFUSED("\xEF\xBB{}", "at byte"); }

TEST(JsonBody, Item27DuplicateKeys) {
  EXPECT_REFUSED(R"({"a":1,"a":2})", "the key \"a\" twice");
  EXPECT_REFUSED(R"({"x":[{"a":1,"\u0061":2}]})", "the key \"a\" twice");
  EXPECT_EQ(error_of(R"({"a":{"a":1},"b":{"a":2}})"), "");
}

TEST(JsonBody, Item27DepthOfAHundredThousand) {
  const std::string deep = "{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  EXPECT_REFUSED(deep, "64 levels");
  std::string objects;
  for (int i = 0; i < 100'000; i++) objects += "{\"a\":";
  EXPECT_REFUSED(objects, "64 levels");
  EXPECT_EQ(error_of("{\"a\":" + std::string(63, '[') + std::string(63, ']') + "}"), "");
}

TEST(JsonBody, Item27TooManyValues) {
  JsonLimits limits;
  limits.max_values = 100;
  std::string body = "{\"a\":[0";
  for (int i = 0; i < 97; i++) body += ",0";  // with the list and the object: 100
  EXPECT_EQ(error_of(body + "]}", limits), "");
  EXPECT_NE(error_of(body + ",0]}", limits).find("more than 100 values"), std::string::npos);
}

TEST(JsonBody, Item27HugeNumbers) {
  EXPECT_REFUSED(R"({"a":1e400})", "at byte");
  EXPECT_REFUSED(R"({"a":-1e999999})", "at byte");
  const Json tiny = parse_json_object(R"({"a":1e-400})");
  EXPECT_EQ(tiny["a"], 0.0);
}

TEST(JsonBody, Item27NaNAndInfinity) {
  EXPECT_REFUSED(R"({"a":NaN})", "at byte");
  EXPECT_REFUSED(R"({"a":Infinity})", "at byte");
  EXPECT_REFUSED(R"({"a":-Infinity})", "at byte");
}

TEST(JsonBody, Item27LoneSurrogates) {
  EXPECT_REFUSED(R"({"a":"\ud800"})", "at byte");
  EXPECT_REFUSED(R"({"a":"\udc00"})", "at byte");
  EXPECT_REFUSED(R"({"a":"\ud800\ud800"})", "at byte");
}

TEST(JsonBody, Item27EmbeddedNul) {
  EXPECT_REFUSED(std::string("{\"a\":\"x\0y\"}", 11), "at byte");
  const Json escaped = parse_json_object(R"({"a":"x\u0000y"})");
  EXPECT_EQ(escaped["a"].get<std::string>(), std::string("x\0y", 3));
}

TEST(JsonBody, Item27InvalidUtf8) {
  EXPECT_REFUSED("{\"a\":\"\xFF\"}", "at byte");
  EXPECT_REFUSED("{\"a\":\"\xC0\xAF\"}", "at byte");          // overlong
  EXPECT_REFUSED("{\"a\":\"\xED\xA0\x80\"}", "at byte");      // a surrogate
  EXPECT_REFUSED("{\"a\":\"\xF5\x80\x80\x80\"}", "at byte");  // above U+10FFFF
  EXPECT_REFUSED("{\"a\xE2\x82\":1}", "at byte");
}

// JSON does not tell 3.0 from 3, and JSON Schema calls both integers.
TEST(JsonFields, WholeNumbers) {
  EXPECT_EQ(whole_number(Json(3.0)), 3);
  EXPECT_EQ(whole_number(Json(-0.0)), 0);
  EXPECT_EQ(whole_number(Json(INT64_MIN)), INT64_MIN);
  EXPECT_EQ(whole_number(Json(uint64_t{INT64_MAX})), INT64_MAX);
  EXPECT_EQ(whole_number(Json(9007199254740992.0)), int64_t{1} << 53);
  for (const Json& other : {Json(0.5), Json(1e300), Json(-1e19), Json(9007199254740994.0),
                            Json(uint64_t{1} << 63), Json("3"), Json(true), Json(nullptr)})
    EXPECT_EQ(whole_number(other), std::nullopt) << other;
}

TEST(JsonFields, TypesAreExact) {
  const Json json = parse_json_object(
      R"({"i":3,"f":2.5,"whole":3.0,"s":"x","b":true,"n":null,"big":18446744073709551615,)"
      R"("l":[1,2],"o":{"k":1}})");
  const JsonFields f(json);
  EXPECT_EQ(f.integer("i", 0, 10), 3);
  EXPECT_EQ(f.integer("whole", 0, 10), 3);
  EXPECT_EQ(f.number("i", 0, 10), 3.0);
  EXPECT_EQ(f.string("s"), "x");
  EXPECT_EQ(f.boolean("b"), true);
  EXPECT_EQ(f.integer("n", 0, 1), std::nullopt);
  EXPECT_EQ(f.integer("none", 0, 1), std::nullopt);
  EXPECT_EQ(f.tokens("l", 3), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(f.object("o")->integer("k", 0, 1), 1);
  EXPECT_THROW(f.integer("f", 0, 10), ApiError);
  EXPECT_THROW(f.integer("big", 0, INT64_MAX), ApiError);
  EXPECT_THROW(f.integer("s", 0, 10), ApiError);
  EXPECT_THROW(f.integer("b", 0, 10), ApiError);
  EXPECT_THROW(f.integer("i", 0, 2), ApiError);
  EXPECT_THROW(f.number("s", 0, 10), ApiError);
  EXPECT_THROW(f.boolean("i"), ApiError);
  EXPECT_THROW(f.string("i"), ApiError);
  EXPECT_THROW(f.tokens("l", 2), ApiError);
  EXPECT_THROW(f.tokens("i", 2), ApiError);
  EXPECT_THROW(f.object("l"), ApiError);
}

TEST(JsonFields, ErrorsNameFieldAndValue) {
  const Json json = parse_json_object(R"({"options":{"top_k":"many"}})");
  try {
    JsonFields(json).object("options")->integer("top_k", 0, 9);
    FAIL();
  } catch (const ApiError& e) {
    EXPECT_STREQ(e.what(), "options.top_k: expected an integer from 0 to 9, got \"many\"");
    EXPECT_EQ(e.param, "options.top_k");
  }
}

}  // namespace
}  // namespace hob
