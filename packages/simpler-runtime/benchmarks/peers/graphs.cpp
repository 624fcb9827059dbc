// Empty tasks on another library, built and run: prints microseconds a task.
//
//     graphs GRAPH THREADS        GRAPH: independent, chain, wavefront
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

constexpr int SIDE = 316;

#if defined(PEER_OPENMP)

void run(const std::string &graph, int threads) {
  static std::vector<char> cells(SIDE * SIDE);
  char *p = cells.data();
#pragma omp parallel num_threads(threads)
#pragma omp single
  for (int i = 0; i < SIDE; ++i)
    for (int j = 0; j < SIDE; ++j) {
      char *own = p + i * SIDE + j, *up = i != 0 ? own - SIDE : own, *left = j != 0 ? own - 1 : own;
      if (graph == "chain") {
#pragma omp task depend(inout : p[0])
        {
        }
      } else if (graph == "independent" || (i == 0 && j == 0)) {
#pragma omp task depend(out : *own)
        {
        }
      } else if (i == 0 || j == 0) {
        char *other = i == 0 ? left : up;
#pragma omp task depend(in : *other) depend(out : *own)
        {
        }
      } else {
#pragma omp task depend(in : *up, *left) depend(out : *own)
        {
        }
      }
    }
}

#elif defined(PEER_TBB)

#include <tbb/flow_graph.h>
#include <tbb/global_control.h>

void run(const std::string &graph, int threads) {
  using namespace tbb::flow;
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, static_cast<size_t>(threads));
  using Node = continue_node<continue_msg>;
  tbb::flow::graph g;
  broadcast_node<continue_msg> start(g);
  std::vector<std::unique_ptr<Node>> nodes;
  for (int i = 0; i < SIDE; ++i)
    for (int j = 0; j < SIDE; ++j) {
      nodes.push_back(std::make_unique<Node>(g, [](const continue_msg &) {}));
      Node &node = *nodes.back();
      const size_t own = nodes.size() - 1;
      if (graph == "independent" || own == 0) {
        make_edge(start, node);
      } else if (graph == "chain") {
        make_edge(*nodes[own - 1], node);
      } else {
        if (i != 0)
          make_edge(*nodes[own - SIDE], node);
        if (j != 0)
          make_edge(*nodes[own - 1], node);
      }
    }
  start.try_put(continue_msg());
  g.wait_for_all();
}

#elif defined(PEER_TASKFLOW)

#include <taskflow/taskflow.hpp>

void run(const std::string &graph, int threads) {
  static tf::Executor executor(static_cast<size_t>(threads));
  std::vector<tf::AsyncTask> tasks;
  for (int i = 0; i < SIDE; ++i)
    for (int j = 0; j < SIDE; ++j) {
      const size_t own = tasks.size();
      if (graph == "independent" || own == 0)
        tasks.push_back(executor.silent_dependent_async([] {}));
      else if (graph == "chain")
        tasks.push_back(executor.silent_dependent_async([] {}, tasks[own - 1]));
      else if (i == 0 || j == 0)
        tasks.push_back(executor.silent_dependent_async([] {}, tasks[i == 0 ? own - 1 : own - SIDE]));
      else
        tasks.push_back(executor.silent_dependent_async([] {}, tasks[own - SIDE], tasks[own - 1]));
    }
  executor.wait_for_all();
}

#endif

int main(int, char **argv) {
  using Clock = std::chrono::steady_clock;
  double best = 1e9;
  for (int round = 0; round < 3; ++round) {
    const auto start = Clock::now();
    run(argv[1], std::atoi(argv[2]));
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  std::printf("%g\n", best / (SIDE * SIDE) * 1e6);
}
