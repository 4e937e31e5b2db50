// All kernels for one instruction set: included inside a namespace, with LANES and ROWS.
#include "vectors.hpp"
#include "attention.hpp"
#include "decoder_passes.hpp"
#include "decoder_drawing.hpp"
#include "mask_stats.hpp"
