// Which stream may have which session.
#include "edge/edge_server.h"

#include <gtest/gtest.h>

#include "unit/edge/edge_world_util.h"
#include "unit/serve/fake_service_util.h"

namespace hob::edge {
namespace {

// All that the server says to one stream.
struct Heard : FrameSink {
  void send(pb::ServerFrame frame) override {
    const std::lock_guard lock(mutex);
    frames.push_back(std::move(frame));
  }
  void close() override {
    const std::lock_guard lock(mutex);
    closed = true;
  }
  const pb::Fault* fault() const {
    return !frames.empty() && frames.back().has_fault() ? &frames.back().fault() : nullptr;
  }
  std::mutex mutex;
  std::vector<pb::ServerFrame> frames;
  bool closed = false;
};

class EdgeServerTest : public testing::Test {
 protected:
  EdgeServerTest() : server(service, options()) {}

  EdgeServerOptions options() {
    EdgeServerOptions o;
    o.limits = test_limits(256);
    o.model = "tiny";
    o.tokenizer = identify(tokenizer, "");
    o.random_bytes = counted_bytes(3);
    o.now_us = [this] { return now_us; };
    o.max_sessions = 3;
    return o;
  }
  struct Opened {
    std::unique_ptr<ServerStream> stream;
    std::shared_ptr<Heard> heard;
    std::string session_id, token;
  };
  Opened send(const std::string& who, const pb::ClientFrame& frame) {
    Opened o;
    o.heard = std::make_shared<Heard>();
    o.stream = server.connect(who, o.heard);
    o.stream->on_frame(frame);
    for (const pb::ServerFrame& f : o.heard->frames) {
      if (f.has_opened()) {
        o.session_id = f.opened().session_id();
        o.token = f.opened().resume_token();
      } else if (f.has_resumed()) {
        o.session_id = f.resumed().session_id();
        o.token = f.resumed().resume_token();
      }
    }
    return o;
  }
  static pb::Open an_open(char id = 'a') {
    CompletionRequest r;
    r.prompt = {1, 2, 3};
    r.max_tok = 20;
    pb::Open open = open_from(r, 0);
    open.set_request_id(std::string(16, id));
    return open;
  }
  Opened open(const std::string& who, char id = 'a') {
    pb::ClientFrame f;
    f.set_epoch(1);
    *f.mutable_open() = an_open(id);
    return send(who, f);
  }
  Opened resume(const std::string& who, const std::string& session, const std::string& token,
                uint32_t epoch, bool with_all = false) {
    pb::ClientFrame f;
    f.set_epoch(epoch);
    pb::Resume& r = *f.mutable_resume();
    r.set_session_id(session);
    r.set_resume_token(token);
    r.set_have_len(3);
    r.set_have_hash(CommittedLog({1, 2, 3}).hash());
    if (with_all) *r.mutable_reopen() = an_open();
    return send(who, f);
  }
  static void expect_fault(const Opened& o, FaultCode code) {
    ASSERT_TRUE(o.heard->fault());
    EXPECT_EQ(o.heard->fault()->code(), static_cast<uint32_t>(code)) << o.heard->fault()->detail();
    EXPECT_TRUE(o.heard->closed);
  }
  static void heartbeat(Opened& o, uint32_t epoch) {
    pb::ClientFrame f;
    f.set_epoch(epoch);
    f.mutable_heartbeat()->set_sent_us(1);
    o.stream->on_frame(f);
  }

  int64_t now_us = 1'000'000;
  testing_serve::ByteTokenizer tokenizer;
  testing_serve::FakeService service{{.delay_ms = 1000, .endless = true}};
  EdgeServer server;
};

TEST_F(EdgeServerTest, ALostStreamIsResumedWithItsToken) {
  Opened first = open("me");
  first.stream->on_closed();
  Opened second = resume("me", first.session_id, first.token, 2);
  EXPECT_FALSE(second.heard->fault());
  EXPECT_EQ(second.session_id, first.session_id);
  EXPECT_NE(second.token, first.token);
}

TEST_F(EdgeServerTest, AUsedTokenIsRefusedOnceItsSuccessorHasArrived) {
  Opened first = open("me");
  Opened second = resume("me", first.session_id, first.token, 2);
  // The reply may have been lost: so far the old one is good.
  Opened third = resume("me", first.session_id, first.token, 3);
  EXPECT_FALSE(third.heard->fault());
  heartbeat(third, 3);
  expect_fault(resume("me", first.session_id, first.token, 4), FaultCode::kPermissionDenied);
  expect_fault(resume("me", first.session_id, second.token, 4), FaultCode::kPermissionDenied);
  EXPECT_FALSE(resume("me", first.session_id, third.token, 4).heard->fault());
}

TEST_F(EdgeServerTest, TheNewestStreamFencesTheOlder) {
  Opened first = open("me");
  const Opened second = resume("me", first.session_id, first.token, 2);
  expect_fault(first, FaultCode::kAborted);
  EXPECT_FALSE(second.heard->closed);
  expect_fault(resume("me", first.session_id, second.token, 2), FaultCode::kAborted);
}

TEST_F(EdgeServerTest, AnotherTenantsSessionDoesNotExist) {
  const Opened mine = open("me");
  expect_fault(resume("you", mine.session_id, mine.token, 2), FaultCode::kNotFound);
  EXPECT_FALSE(mine.heard->closed);
}

TEST_F(EdgeServerTest, WhoBringsEverythingAlongNeedsNoSession) {
  const Opened o = resume("me", "nobody knows this", "", 7, true);
  EXPECT_FALSE(o.heard->fault());
  EXPECT_FALSE(o.session_id.empty());
  expect_fault(resume("me", "nobody knows this", "", 7), FaultCode::kNotFound);
}

TEST_F(EdgeServerTest, TheSameRequestAgainReplacesIt) {
  open("me");
  open("me");
  EXPECT_EQ(server.n_sessions(), 1);
  open("you");
  EXPECT_EQ(server.n_sessions(), 2);
}

TEST_F(EdgeServerTest, TooManySessionsAreRefusedAndLostOnesMakeRoom) {
  Opened a = open("me", 'a'), b = open("me", 'b'), c = open("me", 'c');
  const Opened d = open("me", 'd');
  expect_fault(d, FaultCode::kResourceExhausted);
  EXPECT_TRUE(d.heard->fault()->retryable());
  a.stream->on_closed();
  server.expire();
  EXPECT_EQ(server.n_sessions(), 3);
  now_us += 31'000'000;
  server.expire();
  EXPECT_EQ(server.n_sessions(), 2);
  EXPECT_FALSE(open("me", 'e').heard->fault());
}

TEST_F(EdgeServerTest, ADrainingServerSendsItsEdgesElsewhere) {
  const Opened o = open("me");
  server.drain();
  expect_fault(o, FaultCode::kUnavailable);
  EXPECT_TRUE(o.heard->fault()->retryable());
  expect_fault(open("me", 'b'), FaultCode::kUnavailable);
}

TEST_F(EdgeServerTest, TheFirstFrameIsOpenOrResume) {
  pb::ClientFrame f;
  f.set_epoch(1);
  f.mutable_draft()->set_round(1);
  expect_fault(send("me", f), FaultCode::kInvalidArgument);
  f.mutable_open();
  f.set_epoch(0);
  expect_fault(send("me", f), FaultCode::kInvalidArgument);
}

TEST_F(EdgeServerTest, AnotherVersionIsRefused) {
  pb::CapabilitiesRequest r;
  r.set_min_minor(kMinor + 1);
  EXPECT_THROW(server.capabilities(r), Error);
  r.set_min_minor(0);
  r.set_max_minor(kMinor + 5);
  EXPECT_EQ(server.capabilities(r).minor(), kMinor);
}

TEST_F(EdgeServerTest, AnotherTokenizerIsNamed) {
  pb::CapabilitiesRequest r;
  *r.mutable_tokenizer() = identify(tokenizer, "");
  EXPECT_NO_THROW(server.capabilities(r));
  r.mutable_tokenizer()->set_rules_sha256("other");
  r.mutable_tokenizer()->mutable_probes(3)->set_ids(0, 77);
  try {
    server.capabilities(r);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("1234567890"), std::string::npos) << e.what();
  }
  r.mutable_tokenizer()->set_vocab_size(5);
  EXPECT_THROW(server.capabilities(r), Error);
}

TEST_F(EdgeServerTest, AnotherModelIsNotHere) {
  pb::ClientFrame f;
  f.set_epoch(1);
  *f.mutable_open() = an_open();
  f.mutable_open()->set_model("huge");
  expect_fault(send("me", f), FaultCode::kNotFound);
}

}  // namespace
}  // namespace hob::edge
