// All kernels for one instruction set: included inside a namespace, with LANES and ROWS.
#include "vectors.hpp"
#include "attention.hpp"
#include "passes.hpp"
#include "drawing.hpp"
#include "measuring.hpp"
