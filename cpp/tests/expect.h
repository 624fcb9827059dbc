// What the tests of errors share.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace simpler {

// The text of the Error that the call throws.
template <class Error> std::string message_of(const std::function<void()> &call) {
  try {
    call();
  } catch (const Error &e) {
    return e.what();
  } catch (const std::exception &e) {
    ADD_FAILURE() << "another error: " << e.what();
    return {};
  }
  ADD_FAILURE() << "no error";
  return {};
}

// Fails unless each word is in the text.
inline void expect_mentions(const std::string &text, std::initializer_list<const char *> words) {
  for (const char *word : words)
    EXPECT_NE(text.find(word), std::string::npos) << "'" << word << "' is not in: " << text;
}

} // namespace simpler
