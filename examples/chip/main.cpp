// A chip in a C++ program: puts a callable together from two shared objects, prepares it once, runs it twice.
//
//     multiply KERNEL.so ORCHESTRATION.so [PLATFORM [RUNTIME]]
#include "simpler/chip_worker.h"
#include "simpler/errors.h"

#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>

using namespace simpler;

namespace {

constexpr uint32_t N = 256;

std::vector<std::byte> read_file(const char *path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw std::runtime_error(std::string("can't read ") + path);
  const std::vector<char> content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto *p = reinterpret_cast<const std::byte *>(content.data());
  return {p, p + content.size()};
}

ContinuousTensor matrix(const std::vector<float> &values) {
  ContinuousTensor t{};
  t.data = reinterpret_cast<uint64_t>(values.data());
  t.ndims = 2;
  t.shapes[0] = t.shapes[1] = N;
  t.dtype = static_cast<uint8_t>(DataType::FLOAT32);
  return t;
}

void multiply(const char *kernel, const char *orchestration, const char *platform, const char *runtime) {
  const ChipCallable callable =
      ChipCallable::build({.name = "multiply",
                           .orchestration = read_file(orchestration),
                           .signature = {TensorArgType::IN, TensorArgType::IN, TensorArgType::OUT},
                           .kernels = {{0, "multiply", CoreType::AIC, read_file(kernel)}}});
  ChipWorker chip({.platform = platform, .runtime = runtime});
  chip.init();
  chip.prepare_callable(0, callable);

  std::vector<float> a(N * N), b(N * N, 0), c(N * N);
  for (size_t i = 0; i < a.size(); ++i)
    a[i] = static_cast<float>(i % 10);
  for (int times = 1; times <= 2; ++times) {
    for (size_t i = 0; i < N; ++i)
      b[i * N + i] = static_cast<float>(times); // so many times the identity
    const ContinuousTensor tensors[] = {matrix(a), matrix(b), matrix(c)};
    chip.run_prepared(0, {3, 0, tensors, nullptr}, {});
    for (size_t i = 0; i < c.size(); ++i)
      if (c[i] != static_cast<float>(times) * a[i])
        throw std::runtime_error("element " + std::to_string(i) + " is " + std::to_string(c[i]));
  }
  const GraphCounts graphs = chip.graph_counts();
  std::printf("%s, %s: %u tasks a run, graph built %llu and replayed %llu times\n", platform, runtime,
              N / 64 * (N / 64), static_cast<unsigned long long>(graphs.built),
              static_cast<unsigned long long>(graphs.replayed));
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s KERNEL.so ORCHESTRATION.so [PLATFORM [RUNTIME]]\n", argv[0]);
    return 2;
  }
  try {
    multiply(argv[1], argv[2], argc > 3 ? argv[3] : "a2a3sim", argc > 4 ? argv[4] : HOST_BUILD_GRAPH);
  } catch (const std::exception &e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
