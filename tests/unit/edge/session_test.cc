// What a session does with frames that no honest peer sends, and what frames weigh.
#include <gtest/gtest.h>

#include <random>

#include "edge/client_session.h"
#include "edge/row_quota.h"
#include "edge/server_session.h"
#include "unit/edge/session_driver_util.h"

namespace hob::edge {
namespace {

constexpr int kVocab = 1000;

ProtocolLimits limits() {
  ProtocolLimits l;
  l.n_vocab = kVocab;
  l.max_context = 256;
  l.max_nodes = 32;
  return l;
}

pb::Open some_open() {
  CompletionRequest r;
  r.prompt = {11, 12, 13};
  r.max_tok = 50;
  pb::Open open = open_from(r, 0);
  open.set_request_id(std::string(16, 'r'));
  return open;
}

DraftTree chain(std::initializer_list<int32_t> tokens) {
  DraftTree t;
  for (const int32_t token : tokens) t.add(token, t.size() - 1);
  return t;
}

CompletionDelta delta(std::vector<int32_t> tokens, bool of_draft = true) {
  CompletionDelta d;
  d.tokens = std::move(tokens);
  d.of_draft = of_draft;
  return d;
}

// A session that waits for its first draft: prompt 11 12 13, answer 20.
class Session : public testing::Test {
 protected:
  Session() {
    actions = session.open(some_open(), 1, "token");
    session.on_delta(delta({20}, false), 0);
  }
  pb::ClientFrame draft(uint32_t round, const DraftTree& tree) const {
    pb::ClientFrame f;
    f.set_epoch(session.epoch());
    pb::Draft& d = *f.mutable_draft();
    d.set_round(round);
    d.set_base_len(static_cast<uint32_t>(session.log().size()));
    d.set_base_hash(static_cast<uint32_t>(session.log().hash()));
    to_message(tree, *d.mutable_tree());
    return f;
  }
  // The session ends with one clear fault, and the engine's request with it.
  void expect_fault(const pb::ClientFrame& f, FaultCode code, const std::string& says) {
    const ServerActions a = session.on_frame(f, 0);
    ASSERT_EQ(a.frames.size(), 1u);
    ASSERT_TRUE(a.frames[0].has_fault()) << a.frames[0].ShortDebugString();
    EXPECT_EQ(a.frames[0].fault().code(), static_cast<uint32_t>(code));
    EXPECT_NE(a.frames[0].fault().detail().find(says), std::string::npos)
        << a.frames[0].fault().detail();
    EXPECT_FALSE(a.frames[0].fault().retryable());
    EXPECT_TRUE(a.close && a.cancel && !a.offer);
    EXPECT_TRUE(session.ended());
  }
  ServerSession session{{.limits = limits(), .session_id = "s"}};
  ServerActions actions;
};

TEST_F(Session, VerdictFollowsTheTree) {
  DraftTree tree = chain({21, 22, 23});
  tree.add(31, 0);
  ServerActions a = session.on_frame(draft(1, tree), 0);
  ASSERT_TRUE(a.offer);
  EXPECT_EQ(a.offer->base_len, 4);
  a = session.on_delta(delta({21, 31, 40}), 0);
  const pb::Verdict& v = a.frames.at(0).verdict();
  EXPECT_EQ(std::vector<uint32_t>(v.path().begin(), v.path().end()), (std::vector<uint32_t>{1, 4}));
  EXPECT_EQ(v.bonus(), 40u);
  EXPECT_EQ(v.committed_len(), 7u);
}

TEST_F(Session, TheSameRoundAgainGetsTheSameVerdictAndNothingTwice) {
  const pb::ClientFrame f = draft(1, chain({21}));
  EXPECT_TRUE(session.on_frame(f, 0).offer);
  const ServerActions again = session.on_frame(f, 0);  // while it is verified
  EXPECT_TRUE(!again.offer && again.frames.empty());
  const ServerActions verdict = session.on_delta(delta({21, 22}), 0);
  const ServerActions resent = session.on_frame(f, 0);
  EXPECT_FALSE(resent.offer);
  ASSERT_EQ(resent.frames.size(), 1u);
  EXPECT_EQ(resent.frames[0].SerializeAsString(), verdict.frames[0].SerializeAsString());
}

TEST_F(Session, LateRoundsAreNothing) {
  for (uint32_t r = 1; r <= 3; r++) {
    session.on_frame(draft(r, chain({21})), 0);
    session.on_delta(delta({21}), 0);
  }
  const ServerActions a = session.on_frame(draft(1, chain({21})), 0);
  EXPECT_TRUE(a.frames.empty() && !a.offer);
}

TEST_F(Session, AStaleBaseIsToldWhatCameSince) {
  const pb::ClientFrame old = draft(2, chain({21}));
  session.on_frame(draft(1, chain({21})), 0);
  session.on_delta(delta({21, 22}), 0);
  const ServerActions a = session.on_frame(old, 0);
  EXPECT_FALSE(a.offer);
  const pb::Verdict& v = a.frames.at(0).verdict();
  EXPECT_EQ(std::vector<uint32_t>(v.rebase().begin(), v.rebase().end()),
            (std::vector<uint32_t>{21, 22}));
}

TEST_F(Session, ARoundAheadOfItsCreditFaults) {
  expect_fault(draft(3, chain({21})), FaultCode::kInvalidArgument, "round");
}

TEST_F(Session, ATreeBeforeTheVerdictFaults) {
  session.on_frame(draft(1, chain({21})), 0);
  expect_fault(draft(2, chain({21})), FaultCode::kInvalidArgument, "before the verdict");
}

TEST_F(Session, AWrongHashFaults) {
  pb::ClientFrame f = draft(1, chain({21}));
  f.mutable_draft()->set_base_hash(f.draft().base_hash() ^ 1);
  expect_fault(f, FaultCode::kDataLoss, "hash");
}

TEST_F(Session, AParentThatComesLaterFaults) {  // so no cycle can be said
  pb::ClientFrame f = draft(1, chain({21, 22}));
  f.mutable_draft()->mutable_tree()->set_parent(0, 2);
  expect_fault(f, FaultCode::kInvalidArgument, "parent of node 1");
}

TEST_F(Session, AMissingParentFaults) {
  pb::ClientFrame f = draft(1, chain({21, 22}));
  f.mutable_draft()->mutable_tree()->mutable_parent()->RemoveLast();
  expect_fault(f, FaultCode::kInvalidArgument, "a parent for each");
}

TEST_F(Session, AnIdOutsideTheVocabularyFaults) {
  expect_fault(draft(1, chain({kVocab})), FaultCode::kInvalidArgument, "tree.token");
}

TEST_F(Session, AnOversizeTreeFaults) {
  DraftTree big;
  for (int i = 0; i < 33; i++) big.add(1, -1);
  expect_fault(draft(1, big), FaultCode::kInvalidArgument, "at most 32 nodes");
}

TEST_F(Session, TooManyBranchesFault) {
  session.on_frame(draft(1, chain({21})), 0);
  pb::ClientFrame f = draft(2, {});
  for (int i = 0; i < 17; i++) f.mutable_draft()->mutable_optimistic()->add_branch();
  expect_fault(f, FaultCode::kInvalidArgument, "at most 16 branches");
}

TEST_F(Session, FramesOfAnOldEpochAreNothing) {
  session.resume(
      [] {
        pb::Resume r;
        r.set_have_len(3);
        r.set_have_hash(CommittedLog({11, 12, 13}).hash());
        return r;
      }(),
      2, "token");
  pb::ClientFrame f = draft(3, chain({kVocab}));
  f.set_epoch(1);
  const ServerActions a = session.on_frame(f, 0);
  EXPECT_TRUE(a.frames.empty() && !a.close);
  EXPECT_FALSE(session.ended());
}

TEST_F(Session, AnUnknownKindOfFrameIsIgnored) {
  pb::ClientFrame f;
  f.set_epoch(1);
  EXPECT_TRUE(session.on_frame(f, 0).frames.empty());
}

TEST_F(Session, AGuessThatFitsIsVerifiedAtOnce) {
  session.on_frame(draft(1, chain({21, 22})), 0);
  pb::ClientFrame f = draft(2, {});
  pb::Branch& wrong = *f.mutable_draft()->mutable_optimistic()->add_branch();
  wrong.set_assume_node(2);
  wrong.set_assume_bonus(50);
  pb::Branch& right = *f.mutable_draft()->mutable_optimistic()->add_branch();
  right.set_assume_node(1);
  right.set_assume_bonus(30);
  to_message(chain({31}), *right.mutable_tree());
  EXPECT_TRUE(session.on_frame(f, 0).frames.empty());
  const ServerActions a = session.on_delta(delta({21, 30}), 0);
  EXPECT_EQ(a.frames.at(0).verdict().used_branch(), 2u);
  ASSERT_TRUE(a.offer);
  EXPECT_EQ(a.offer->base_len, 6);
  EXPECT_EQ(a.offer->tree.tokens, (std::vector<int32_t>{31}));
}

// What had no room was drafted and sent in vain: the verdict says how much is worth it.
TEST_F(Session, ACutTreeIsAPriceThatFallsAgain) {
  DraftTree tree;
  for (int i = 0; i < 32; i++) tree.add(21 + i, i - 1);
  const auto round = [&](uint32_t r, int n_nodes, int n_verified) {
    DraftTree part = tree;
    part.resize(n_nodes);
    session.on_frame(draft(r, part), 0);
    CompletionDelta d = delta({500});
    d.n_draft_nodes = n_verified;
    return session.on_delta(d, 0).frames.at(0).verdict().next_nodes();
  };
  EXPECT_EQ(round(1, 20, 20), 0u);  // no advice
  EXPECT_EQ(round(2, 20, 6), 7u);   // six nodes
  EXPECT_EQ(round(3, 6, 6), 9u);    // two more
  EXPECT_EQ(round(4, 3, 3), 9u);    // it sent less than it might: nothing new is known
  EXPECT_EQ(round(5, 8, 1), 2u);
  uint32_t r = 6;
  while (r < 30 && round(r, 32, 32) > 0) r++;
  EXPECT_LT(r, 30u);  // back to no advice
}

TEST_F(Session, AServerThatVerifiesOnlySaysSo) {
  ServerSession strict({.limits = limits(), .session_id = "s", .may_stream = false});
  pb::Open open = some_open();
  open.set_mode(pb::SERVER_STREAM);
  const ServerActions a = strict.open(open, 1, "token");
  EXPECT_FALSE(a.self_decoding.value_or(false));
  ASSERT_EQ(a.frames.size(), 2u);
  EXPECT_EQ(a.frames[1].mode().mode(), pb::TREE);
  EXPECT_FALSE(a.frames[1].mode().reason().empty());
}

// The engine had a token of its own under way when the edge began to draft again: the round that
// met it has not begun, and its number is free.
TEST_F(Session, ARoundThatMetAStreamedTokenHasNotBegun) {
  pb::ClientFrame mode;
  mode.set_epoch(1);
  mode.mutable_set_mode()->set_mode(pb::SERVER_STREAM);
  EXPECT_TRUE(session.on_frame(mode, 0).self_decoding.value_or(false));
  session.on_delta(delta({21}, false), 0);
  mode.mutable_set_mode()->set_mode(pb::TREE);
  EXPECT_FALSE(session.on_frame(mode, 0).self_decoding.value_or(true));
  EXPECT_TRUE(session.on_frame(draft(1, chain({30})), 0).offer);
  const ServerActions a = session.on_delta(delta({22}, false), 0);
  EXPECT_EQ(a.frames.at(0).verdict().round(), 0u);
  EXPECT_EQ(a.frames[0].verdict().streamed_size(), 1);
  EXPECT_TRUE(session.on_frame(draft(1, chain({23})), 0).offer);
}

// ... and so are the guesses that the edge has sent behind it.
TEST_F(Session, GuessesBehindARoundThatHasNotBegunAreNothing) {
  pb::ClientFrame mode;
  mode.set_epoch(1);
  mode.mutable_set_mode()->set_mode(pb::SERVER_STREAM);
  session.on_frame(mode, 0);
  mode.mutable_set_mode()->set_mode(pb::TREE);
  session.on_frame(mode, 0);
  const pb::ClientFrame stale = draft(1, chain({30}));
  session.on_delta(delta({22}, false), 0);
  EXPECT_EQ(session.on_frame(stale, 0).frames.at(0).verdict().rebase_size(), 1);
  pb::ClientFrame guesses = draft(2, {});
  guesses.mutable_draft()->mutable_optimistic()->add_branch();
  const ServerActions a = session.on_frame(guesses, 0);
  EXPECT_TRUE(a.frames.empty() && !a.offer && !session.ended());
  EXPECT_TRUE(session.on_frame(draft(1, chain({23})), 0).offer);
}

TEST_F(Session, AQuotaCutsTreesBeforeItMakesThemWait) {
  TokenBucket bucket(10, 5);  // holds ten rows
  ServerSession s({.limits = limits(), .session_id = "s", .quota = &bucket});
  s.open(some_open(), 1, "token");
  s.on_delta(delta({20}, false), 0);
  const auto send = [&](uint32_t round, int64_t now_us) {
    pb::ClientFrame f;
    f.set_epoch(1);
    f.mutable_draft()->set_round(round);
    f.mutable_draft()->set_base_len(static_cast<uint32_t>(s.log().size()));
    f.mutable_draft()->set_base_hash(static_cast<uint32_t>(s.log().hash()));
    to_message(chain({21, 22, 23, 24, 25, 26}), *f.mutable_draft()->mutable_tree());
    return s.on_frame(f, now_us);
  };
  EXPECT_EQ(send(1, 0).offer->tree.size(), 6);
  s.on_delta(delta({40}), 0);
  EXPECT_EQ(send(2, 0).offer->tree.size(), 2);  // three rows were left
  s.on_delta(delta({40}), 0);
  const ServerActions wait = send(3, 0);
  EXPECT_FALSE(wait.offer);
  EXPECT_GE(wait.frames.at(0).throttle().retry_after_ms(), 100u);
  EXPECT_EQ(send(3, 250'000).offer->tree.size(), 1);  // a quarter of a second: two rows
}

TEST(OpenFrame, BadFieldsFaultByName) {
  const auto refusal = [](const std::function<void(pb::Open&)>& spoil) {
    pb::Open open = some_open();
    spoil(open);
    ServerSession s({.limits = limits(), .session_id = "s"});
    const ServerActions a = s.open(open, 1, "token");
    EXPECT_FALSE(a.submit);
    return a.frames.size() == 1 && a.frames[0].has_fault() ? a.frames[0].fault().detail()
                                                           : std::string("no fault");
  };
  const auto expect_says = [&](const char* word, const std::function<void(pb::Open&)>& spoil) {
    const std::string detail = refusal(spoil);
    EXPECT_NE(detail.find(word), std::string::npos) << detail;
  };
  expect_says("request_id", [](pb::Open& o) { o.set_request_id("short"); });
  expect_says("prompt", [](pb::Open& o) { o.clear_prompt(); });
  expect_says("prompt", [](pb::Open& o) { o.add_prompt(kVocab); });
  expect_says("prompt", [](pb::Open& o) {
    for (int i = 0; i < 300; i++) o.add_prompt(1);
  });
  expect_says("rule",
              [](pb::Open& o) { o.mutable_sampling()->set_rule(static_cast<pb::AcceptRule>(9)); });
  expect_says("GREEDY_MATCH", [](pb::Open& o) {
    o.mutable_sampling()->set_rule(pb::GREEDY_MATCH);
    o.mutable_sampling()->set_temperature(1);
  });
  expect_says("temperature", [](pb::Open& o) {
    o.mutable_sampling()->set_temperature(std::numeric_limits<float>::quiet_NaN());
  });
  expect_says("top_k", [](pb::Open& o) { o.mutable_sampling()->set_top_k(UINT32_MAX); });
  expect_says("mode", [](pb::Open& o) { o.set_mode(static_cast<pb::Mode>(7)); });
  expect_says("features", [](pb::Open& o) { o.set_features(1); });
  expect_says("stop_ids", [](pb::Open& o) {
    for (int i = 0; i < 300; i++) o.add_stop_ids(1);
  });
  expect_says("logit_bias", [](pb::Open& o) {
    o.mutable_sampling()->add_logit_bias()->set_bias(std::numeric_limits<float>::quiet_NaN());
  });
  expect_says("max_new_tokens", [](pb::Open& o) { o.set_max_new_tokens(UINT32_MAX); });
}

// With gRPC's five bytes before a message and HTTP/2's nine before a frame, before TLS.
TEST(Wire, ADraftOfThirtyTwoNodesAndItsVerdictAreSmall) {
  constexpr size_t kFraming = 5 + 9;
  ProtocolLimits wide = limits();
  wide.n_vocab = 150'000;
  pb::Open open = some_open();
  for (int i = 0; i < 200; i++) open.add_prompt(149'000);
  ServerSession server({.limits = wide, .session_id = "s"});
  ClientSession client(open, std::string(16, 'r'), {.limits = wide});
  client.on_connected(0);
  const ServerActions opened = server.open(client.take_frames().at(0).open(), 1, "token");
  client.on_frame(opened.frames.at(0), 0);
  client.on_frame(server.on_delta(delta({149'999}, false), 0).frames.at(0), 0);
  ASSERT_TRUE(client.may_draft(0));
  DraftTree tree;
  for (int i = 0; i < 32; i++) tree.add(140'000 + i, i < 8 ? i - 1 : i / 2);
  client.send_tree(tree, 20'000, 50'000);
  const std::vector<pb::ClientFrame> up = client.take_frames();
  ASSERT_EQ(up.size(), 1u);
  EXPECT_LE(up[0].ByteSizeLong() + kFraming, 200u);
  RecordProperty("draft_bytes", static_cast<int>(up[0].ByteSizeLong() + kFraming));
  server.on_frame(up[0], 60'000);
  CompletionDelta d = delta({});
  for (int i = 0; i < 8; i++) d.tokens.push_back(140'000 + i);
  d.tokens.push_back(149'998);
  d.step_s = 0.045;
  d.n_step_rows = 128;
  const ServerActions verdict = server.on_delta(d, 110'000);
  EXPECT_EQ(verdict.frames.at(0).verdict().path_size(), 8);
  EXPECT_LE(verdict.frames.at(0).ByteSizeLong() + kFraming, 64u);
  RecordProperty("verdict_bytes", static_cast<int>(verdict.frames.at(0).ByteSizeLong() + kFraming));
}

class Client : public testing::Test {
 protected:
  Client() : client(some_open(), std::string(16, 'r'), options()) {
    client.on_connected(kStart);
    client.take_frames();
    pb::ServerFrame f = frame();
    f.mutable_opened()->set_session_id("s");
    f.mutable_opened()->set_resume_token("t");
    client.on_frame(f, kStart);
  }
  static ClientSessionOptions options() {
    ClientSessionOptions o;
    o.limits = limits();
    return o;
  }
  static pb::ServerFrame frame() {
    pb::ServerFrame f;
    f.set_epoch(1);
    return f;
  }
  // A verdict whose ids follow the client's log; `spoil` makes it wrong.
  pb::ServerFrame verdict(std::vector<int32_t> ids, std::vector<uint32_t> path = {}) const {
    pb::ServerFrame f = frame();
    pb::Verdict& v = *f.mutable_verdict();
    CommittedLog log({client.log().ids().begin(), client.log().ids().end()});
    v.set_base_len(static_cast<uint32_t>(log.size()));
    for (const int32_t id : ids) log.append(id);
    for (const uint32_t k : path) v.add_path(k);
    v.set_bonus(static_cast<uint32_t>(ids.back()));
    v.set_committed_len(static_cast<uint32_t>(log.size()));
    v.set_hash(static_cast<uint32_t>(log.hash()));
    return f;
  }
  // The client trusts its log, drops the link and asks again.
  void expect_doubt(const pb::ServerFrame& f) {
    const int size = client.log().size();
    client.on_frame(f, kStart);
    EXPECT_TRUE(client.drops_link());
    EXPECT_EQ(client.log().size(), size);
    client.on_disconnected(kStart);
    EXPECT_EQ(client.status(), ClientSession::Status::kOffline);
  }
  static constexpr int64_t kStart = 1'000'000;
  ClientSession client;
};

TEST_F(Client, GuessesBeyondTheLimitsStayBehind) {
  client.on_frame(verdict({20}), kStart);
  client.send_tree(chain({21}), 0, kStart);
  client.take_frames();
  DraftTree big;
  for (int i = 0; i < 30; i++) big.add(i, i - 1);
  client.send_guesses(
      std::vector<OutcomeGuess>(40, OutcomeGuess{.node = 0, .bonus = 9, .tree = big}));
  const std::vector<pb::ClientFrame> frames = client.take_frames();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].draft().optimistic().branch_size(), 4);  // 128 nodes are allowed, 120 fit
}

TEST_F(Client, SendsNoMoreThanItsCreditAndThePrice) {
  pb::ServerFrame credit = frame();
  credit.mutable_credit()->set_max_nodes(10);
  credit.mutable_credit()->set_max_branches(8);
  client.on_frame(credit, kStart);
  EXPECT_EQ(client.max_nodes(), 10);
  EXPECT_EQ(client.max_branches(), 8);
  pb::ServerFrame f = verdict({20});
  f.mutable_verdict()->set_next_nodes(4);
  client.on_frame(f, kStart);
  EXPECT_EQ(client.max_nodes(), 3);
  client.send_tree(chain({21, 22, 23, 24, 25}), 0, kStart);
  const std::vector<pb::ClientFrame> frames = client.take_frames();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].draft().tree().token_size(), 3);
  const OutcomeGuess guess{.node = 0, .bonus = 9, .tree = chain({1, 2, 3, 4, 5, 6, 7, 8, 9, 10})};
  client.send_guesses(std::vector<OutcomeGuess>(8, guess));
  EXPECT_EQ(client.take_frames().at(0).draft().optimistic().branch_size(), 4);  // 40 nodes
  f = verdict({21}, {});
  f.mutable_verdict()->set_round(1);
  client.on_frame(f, kStart);
  EXPECT_EQ(client.max_nodes(), 10);  // no advice any more
  credit.mutable_credit()->set_max_nodes(1000);
  client.on_frame(credit, kStart);
  EXPECT_EQ(client.max_nodes(), limits().max_nodes);  // not more than it can have
}

// A change of mode waits for the round's end, and drafts wait for the server's word.
TEST_F(Client, ModesChangeBetweenRounds) {
  client.on_frame(verdict({20}), kStart);
  client.send_tree(chain({21}), 0, kStart);
  client.set_mode(pb::SERVER_STREAM);
  EXPECT_EQ(client.take_frames().size(), 1u);  // the draft alone
  EXPECT_FALSE(client.may_guess());
  pb::ServerFrame f = verdict({30});
  f.mutable_verdict()->set_round(1);
  client.on_frame(f, kStart);
  EXPECT_EQ(client.status(), ClientSession::Status::kStreaming);
  ASSERT_EQ(client.take_frames().at(0).set_mode().mode(), pb::SERVER_STREAM);
  client.set_mode(pb::TREE);
  EXPECT_EQ(client.take_frames().at(0).set_mode().mode(), pb::TREE);
  EXPECT_FALSE(client.may_draft(kStart));
  f = frame();
  f.mutable_mode()->set_mode(pb::SERVER_STREAM);  // the answer to the first wish
  client.on_frame(f, kStart);
  EXPECT_FALSE(client.may_draft(kStart));
  f.mutable_mode()->set_mode(pb::TREE);
  client.on_frame(f, kStart);
  EXPECT_TRUE(client.may_draft(kStart));
}

TEST_F(Client, DraftsWhenTheServerWillNotWrite) {
  client.on_frame(verdict({20}), kStart);
  client.set_mode(pb::SERVER_STREAM);
  pb::ServerFrame f = frame();
  f.mutable_mode()->set_mode(pb::TREE);
  f.mutable_mode()->set_reason("no");
  client.on_frame(f, kStart);
  EXPECT_TRUE(client.stream_refused());
  EXPECT_TRUE(client.may_draft(kStart));
  client.take_frames();
  client.set_mode(pb::SERVER_STREAM);
  EXPECT_TRUE(client.take_frames().empty());
}

TEST_F(Client, AWrongHashIsDoubted) {
  pb::ServerFrame f = verdict({20});
  f.mutable_verdict()->set_hash(1);
  expect_doubt(f);
}

TEST_F(Client, APathOutsideTheTreeIsDoubted) {
  client.on_frame(verdict({20}), kStart);
  client.send_tree(chain({21, 22}), 0, kStart);
  pb::ServerFrame f = verdict({22, 30}, {2});  // its parent is missing
  f.mutable_verdict()->set_round(1);
  expect_doubt(f);
}

TEST_F(Client, AnIdOutsideTheVocabularyIsDoubted) { expect_doubt(verdict({kVocab})); }

TEST_F(Client, ABranchThatWasNeverSentIsDoubted) {
  pb::ServerFrame f = verdict({20});
  f.mutable_verdict()->set_used_branch(1);
  expect_doubt(f);
}

TEST_F(Client, AVerdictTwiceIsOnlyOnce) {
  const pb::ServerFrame f = verdict({20});
  client.on_frame(f, kStart);
  client.on_frame(f, kStart);
  EXPECT_FALSE(client.drops_link());
  EXPECT_EQ(client.take_tokens(), (std::vector<int32_t>{20}));
}

TEST_F(Client, AFaultThatIsNoUseToRetryEndsIt) {
  pb::ServerFrame f = frame();
  f.mutable_fault()->set_code(static_cast<uint32_t>(FaultCode::kInvalidArgument));
  f.mutable_fault()->set_detail("[x] because");
  client.on_frame(f, kStart);
  ASSERT_TRUE(client.end());
  EXPECT_EQ(client.end()->detail, "[x] because");
}

TEST_F(Client, SilenceIsAskedAboutAndThenGivenUp) {
  const int64_t asks = client.next_tick_us();
  EXPECT_GT(asks, kStart);
  client.tick(asks);
  const std::vector<pb::ClientFrame> frames = client.take_frames();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_TRUE(frames[0].has_heartbeat());
  EXPECT_FALSE(client.drops_link());
  client.tick(client.next_tick_us());
  EXPECT_TRUE(client.drops_link());
}

TEST_F(Client, AnAnswerToTheHeartbeatKeepsASlowServer) {
  for (int i = 0; i < 50; i++) {
    const int64_t now = client.next_tick_us();
    client.tick(now);
    for (const pb::ClientFrame& f : client.take_frames()) {
      ASSERT_TRUE(f.has_heartbeat());
      pb::ServerFrame echo = frame();
      echo.mutable_heartbeat()->set_echo_us(f.heartbeat().sent_us());
      client.on_frame(echo, now + 1000);
    }
    ASSERT_FALSE(client.drops_link());
  }
}

TEST_F(Client, PatienceEnds) {
  client.on_disconnected(kStart);
  int64_t now = kStart;
  for (int i = 0; i < 1000 && !client.end(); i++) {
    now = client.next_tick_us();
    client.tick(now);
    if (client.wants_link(now)) {
      client.on_connected(now);
      client.on_disconnected(now);
    }
  }
  ASSERT_TRUE(client.end());
  EXPECT_EQ(client.end()->code, FaultCode::kUnavailable);
  EXPECT_LE(now, kStart + options().patience_us + options().most_backoff_us);
}

TEST_F(Client, AClockThatJumpsBackDoesNoHarm) {
  client.on_frame(verdict({20}), kStart);
  client.send_tree(chain({21}), 0, kStart + 10'000'000);
  pb::ServerFrame f = verdict({21, 22}, {1});
  f.mutable_verdict()->set_round(1);
  client.on_frame(f, kStart);  // "before" it was sent
  EXPECT_FALSE(client.drops_link());
  EXPECT_GE(client.stats().srtt_us, 0);
  EXPECT_EQ(client.log().size(), 6);
}

// The fuzzer's driver with random bytes, so that every build checks its invariants.
TEST(Sessions, KeepTheirInvariantsWhateverComes) {
  std::mt19937 rng(7);
  for (int i = 0; i < 3000; i++) {
    std::vector<uint8_t> bytes(rng() % 400);
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(rng());
    drive_sessions(bytes);
  }
}

}  // namespace
}  // namespace hob::edge
