/* cuda_hashes.h: the CUDA text of each program in its usual size, as a hash. It changes with intent alone: what is
 * right is printed by DETENT_CUDA_HASHES=1 test_cuda. */
#ifndef DETENT_TESTS_CUDA_HASHES_H
#define DETENT_TESTS_CUDA_HASHES_H

/* clang-format off */
static const struct {
    const char *program, *hash;
} hashes[] = {
    { "mnist.float.train", "74ca0fb154ec9175c6ddc20c67306d84" },
    { "mnist.float.eval", "48de9774a9d3cc1f459dbe600a1e95da" },
    { "mnist.lsq.w8a8.train", "a58fd281d3af71c99e09128ac089a5e1" },
    { "mnist.lsq.w8a8.eval", "0bb7f03af7fc0006d2a6137fe06b2821" },
    { "mnist.lsq.w8a8.init", "a44f7bb5be895a394dac767776d6819a" },
    { "mnist.lsq.w4a4.train", "ffacdcbf717a09f2bda5734a48ecac9d" },
    { "mnist.lsq.w4a4.eval", "224a0e57ea078f627df5e8f83edf85d2" },
    { "mnist.lsq.w4a4.init", "cb09250f165406ce1c7efc9782621dc7" },
    { "mnist.lsq.w2a2.train", "7682eeebcf8560d01f6f82a82893617c" },
    { "mnist.lsq.w2a2.eval", "48872247d9e08aac5978b408a5bacc76" },
    { "mnist.lsq.w2a2.init", "108e0fdbd1d1547c3851864caa85071c" },
    { "mnist.lsq.w4a4.int8.train", "f9dcb496ba10a80a596db955e1e3638d" },
    { "mnist.lsq.w4a4.int8.eval", "c7a1e4df0573d50a1135a9aa992d2258" },
    { "mnist.lsq.w4a4.int8.init", "a2d988a9e8f78f6d8e01480f980494de" },
    { "resnet20.float.train", "2c02bbc028e969ed3fe21214cc8aa045" },
    { "resnet20.float.eval", "13f498bb012eaf2eca49bcdc47fdb889" },
    { "resnet20.lsq.w8a8.train", "d7ec0a1a8fdffe891f087d31be236a71" },
    { "resnet20.lsq.w8a8.eval", "e5c3ab7cea4e8863fa81a309387e65ca" },
    { "resnet20.lsq.w8a8.init", "7248e750b29032473cb2dbe0fe17070e" },
    { "resnet20.lsq.w4a4.train", "73ddf8818ff9a829c977dd2559cef058" },
    { "resnet20.lsq.w4a4.eval", "6bd97fed9080599fc25bf3b230b75292" },
    { "resnet20.lsq.w4a4.init", "ccfae08d780e6f3ababb72a425058fcf" },
    { "resnet20.lsq.w2a2.train", "552d69add381f569d68498941a7a2cb6" },
    { "resnet20.lsq.w2a2.eval", "82debbd4e19ea458ea93912d7a4a3a26" },
    { "resnet20.lsq.w2a2.init", "f175b885c9183fb3a206b9beddca2d10" },
    { "resnet20.lsq.w4a4.int8.train", "f68e2a06b6f531aa072699fe7c899815" },
    { "resnet20.lsq.w4a4.int8.eval", "fdceb431d72a3d9b8517eb4f4f644551" },
    { "resnet20.lsq.w4a4.int8.init", "b629ed9ff0feab50c7be09f79d43d7f3" },
};
/* clang-format on */

#endif
