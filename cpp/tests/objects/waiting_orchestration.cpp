#include "simpler/orchestration.h"

using namespace simpler;

extern "C" void orchestrate(Graph &graph, TaskArgsView args) { graph.submit(Task(0).scalar(args.scalars[0])); }
