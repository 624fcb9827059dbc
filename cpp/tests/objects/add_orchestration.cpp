#include "simpler/orchestration.h"

using namespace simpler;

extern "C" void orchestrate(Graph &graph, TaskArgsView args) {
  graph.submit(Task(0).in(args.tensors[0]).in(args.tensors[1]).out(args.tensors[2]));
}
