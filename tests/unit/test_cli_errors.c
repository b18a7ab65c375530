/* test_cli_errors.c: mistakes of people, made with the real programs. Each must end with the exit code of its kind,
 * print exactly one error, and say what was found, what was expected or what to do; none may crash, and none may leave
 * half a file behind.
 *
 * Mistakes in networks are files of tests/diag (test_diag_dsl.c, 40 of them); damaged data and checkpoints byte by byte
 * are in test_data.c and test_checkpoint.c, IR text in test_ir_text.c and test_verify.c, options in test_base.c. Here
 * are those that go through the whole program. */
#include "tests/unit/cli_fixture.h"

#include <regex.h>

typedef struct Mistake {
    const char *script;
    int         code;
    const char *says[5];
} Mistake;

static const char *const fatal[] = { "internal error", "Sanitizer", "runtime error" };

/* "error: ...", "FILE: error: ..." or "FILE:LINE: error: ...". What a C compiler says has a column, too, and is quoted
 * by one of these. */
static int32_t count_errors(const char *text)
{
    regex_t    error;
    regmatch_t at;
    int32_t    n = 0;
    assert_int_equal(regcomp(&error, "^([^: ]+:([0-9]+:)? )?error: ", REG_EXTENDED | REG_NEWLINE), 0);
    for (; regexec(&error, text, 1, &at, 0) == 0; text += at.rm_eo)
        n++;
    regfree(&error);
    return n;
}

static void run_mistakes(Cli *c, const Mistake *m, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        Ran r = cli_expect(c, m[i].code, m[i].script);
        assert_non_null(m[i].says[0]);
        if (count_errors(r.err) != 1)
            fail_msg("%s\nprints %d errors, expected 1:\n%s", m[i].script, count_errors(r.err), r.err);
        for (int32_t k = 0; k < DT_COUNT(m[i].says) && m[i].says[k] != NULL; k++)
            assert_in(r, r.err, m[i].says[k]);
        for (int32_t k = 0; k < DT_COUNT(fatal); k++)
            assert_not_in(r, r.err, fatal[k]);
    }
}

/* clang-format off */
static const Mistake words[] = {
    { "$DETENT frobnicate", EXIT_USAGE, { "detent: expected a command, found 'frobnicate'", "help: `detent --help` lists the commands" } },
    { "$DETENT trian mnist", EXIT_USAGE, { "found 'trian'", "help: did you mean train?" } },
    { "$DETENT --bits w4a4", EXIT_USAGE, { "expected a command, found '--bits'" } },
    { "$DETENT help trian", EXIT_USAGE, { "found 'trian'" } },
    { "$DETENT train", EXIT_USAGE, { "detent train: expected a network, found none", "a .c file" } },
    { "$DETENT train mnist resnet20", EXIT_USAGE, { "expected one network, found 'resnet20' too" } },
    { "$DETENT doctor mnist", EXIT_USAGE, { "detent doctor: expected only options, found 'mnist' too" } },
    { "$DETENT info resnet2", EXIT_MISTAKE, { "no network is named resnet2; built in are resnet20, mnist", "did you mean resnet20 or resnet20_b?" } },
    { "$DETENT info ''", EXIT_MISTAKE, { "expected a network", "found ''" } },
    { "$DETENT info /tmp", EXIT_MISTAKE, { "a .c file, found '/tmp'" } },
    { "$DETENT info nothing.c", EXIT_MISTAKE, { "cannot read nothing.c: No such file" } },
    { "$DETENT info mnist --bacth 3", EXIT_USAGE, { "unknown option", "found '--bacth'", "did you mean --batch?" } },
    { "$DETENT info mnist -b 3", EXIT_USAGE, { "unknown option", "found '-b'" } },
    { "$DETENT info mnist --print-plan", EXIT_USAGE, { "expected options of info, found '--print-plan'", "the commands that have it: train, eval, compile, dump" } },
    { "$DETENT dump mnist --epochs 3", EXIT_USAGE, { "expected options of dump, found '--epochs'", "train, eval" } },
    { "$DETENT info mnist --batch", EXIT_USAGE, { "--batch: expected a value, found the end of the command line", "write --batch=N" } },
    { "$DETENT info mnist --batch --seed 1", EXIT_USAGE, { "--batch: expected a value, found the option '--seed'" } },
    { "$DETENT info mnist --batch=0", EXIT_USAGE, { "--batch: expected an integer from 1 to 65536, found '0'" } },
    { "$DETENT info mnist --batch=4x", EXIT_USAGE, { "found '4x'" } },
    { "$DETENT info mnist --seed -1", EXIT_USAGE, { "--seed: expected an integer of at least 0, found '-1'" } },
    { "$DETENT train mnist --momentum=-0.5", EXIT_USAGE, { "--momentum: expected a number from 0 to 1, found '-0.5'" } },
    { "$DETENT train mnist --lr=0", EXIT_USAGE, { "--lr: expected a number from 1e-09 to 1000, found '0'" } },
    { "$DETENT train mnist --lr=nan", EXIT_USAGE, { "--lr: expected a number", "found 'nan'" } },
    { "$DETENT train mnist --epochs=-1", EXIT_USAGE, { "--epochs: expected an integer from 0 to 1000000, found '-1'" } },
    { "$DETENT info mnist --quiet=maybe", EXIT_USAGE, { "--quiet: expected true or false, found 'maybe'" } },
    { "$DETENT info mnist --no-quiet=1", EXIT_USAGE, { "--no-quiet: expected no value, found '1'" } },
    { "$DETENT info mnist --no-batch", EXIT_USAGE, { "found '--no-batch'", "did you mean --batch?" } },
    { "$DETENT compile mnist --backend=gpu", EXIT_USAGE, { "--backend: expected cpu, interp, cuda, sim or null, found 'gpu'" } },
    { "$DETENT compile mnist --vector-width=5", EXIT_USAGE, { "--vector-width: expected 4, 8, 16 or 0, found 5" } },
    { "$DETENT compile mnist --threads=-1", EXIT_USAGE, { "--threads: expected an integer from 0 to 1024, found '-1'" } },
    { "$DETENT dump mnist --dump-kernels=k", EXIT_USAGE, { "--dump-kernels: dump makes no code", "use `detent compile`" } },
    { "$DETENT compile mnist --backend=interp --dump-kernels=k", EXIT_MISTAKE, { "--dump-kernels: the interpreter makes no code" } },
    { "$DETENT info mnist > /dev/full", EXIT_MISTAKE, { "detent: cannot write to stdout: No space left" } },
};

static const Mistake gpus[] = {
    { "$DETENT compile mnist --math=f16", EXIT_USAGE, { "--math: expected f32, tf32, fp16 or bf16, found 'f16'" } },
    { "$DETENT compile mnist --math=tf32", EXIT_MISTAKE, { "--math: expected --backend cuda, found cpu" } },
    { "$DETENT compile mnist --backend=sim --autotune", EXIT_MISTAKE, { "--autotune: expected --backend cuda, found sim" } },
    { "$DETENT compile mnist --no-graph", EXIT_MISTAKE, { "--no-graph: expected --backend cuda, sim or null, found cpu" } },
    { "$DETENT compile mnist --backend=null --gpu-memory=lots", EXIT_USAGE, { "--gpu-memory: expected a number of bytes such as 500M or 8G, found 'lots'" } },
    { "$DETENT compile mnist --backend=null --gpu-memory=-1G", EXIT_USAGE, { "found '-1G'" } },
    { "$DETENT compile mnist --backend=cuda --arch=90", EXIT_MISTAKE, { "--arch: expected a GPU's architecture such as sm_80 or sm_90, found '90'" } },
    { "$DETENT bench mnist --backend=cuda --arch=sm_90", EXIT_MISTAKE, { "--arch: expected with `compile` alone", "leave it out" } },
    { "$DETENT compile mnist --forward=int8 --method lsq", EXIT_USAGE, { "--forward: expected float, int or auto, found 'int8'" } },
    { "$DETENT compile mnist --forward-times=a=1/2 --method lsq", EXIT_USAGE, { "--forward-times: expected --forward auto beside it, found --forward float" } },
    { "$DETENT compile mnist --forward=auto --forward-times=a=1 --method lsq", EXIT_USAGE, { "--forward-times: expected PRODUCT=MS/MS", "found 'a=1'", "leave it out" } },
    { "$DETENT compile mnist --forward=auto --forward-times=a=1/-2 --method lsq", EXIT_USAGE, { "found 'a=1/-2'" } },
    { "$DETENT compile mnist --forward=auto --forward-times=a=1/nan --method lsq", EXIT_USAGE, { "found 'a=1/nan'" } },
    { "$DETENT compile mnist --forward=auto --forward-times==1/2 --method lsq", EXIT_USAGE, { "found '=1/2'" } },
    { "$DETENT compile mnist --backward=fp8", EXIT_USAGE, { "--backward: expected f32 or bf16, found 'fp8'" } },
    { "$DETENT compile mnist --backward=bf16 --backend=sim", EXIT_MISTAKE, { "--backward bf16: expected --backend cpu or interp, found sim", "--math bf16" } },
    { "$DETENT compile mnist --forward=int --isa=sse9", EXIT_MISTAKE, { "--isa: expected an instruction set that this machine has, portable, ", "or native, found sse9" } },
    { "$DETENT compile mnist --backend=sim --isa=avx2", EXIT_MISTAKE, { "--isa: expected --backend cpu, found sim" } },
    { "DETENT_CUDA_DRIVER=/nowhere $DETENT compile mnist --backend=cuda", EXIT_MISTAKE, { "/nowhere", "--arch sm_90" } },
    { "DETENT_CUDA_DRIVER=/nowhere $DETENT bench mnist --backend=cuda", EXIT_MISTAKE, { "/nowhere", "--backend cpu trains here, --backend sim" } },
    { "DETENT_NVRTC=/nowhere $DETENT compile mnist --backend=cuda --arch=sm_90", EXIT_MISTAKE, { "NVRTC", "/nowhere", "pip install nvidia-cuda-nvrtc" } },
    { "$DETENT bench resnet20 --backend=null --gpu-memory=100M", EXIT_MISTAKE, { "with a batch of 128 needs ", "100.0 MiB can be had", "largest at the peak: ", "the largest batch that fits is ", "--batch " } },
    { "$DETENT train mnist --memory=lots", EXIT_USAGE, { "--memory: expected a number of bytes such as 500M or 8G, found 'lots'" } },
    { "$DETENT eval mnist --memory=1G", EXIT_USAGE, { "expected options of eval, found '--memory", "train, compile, dump, bench, plan" } },
    { "$DETENT dump resnet20 --memory=40M", EXIT_MISTAKE, { "--memory: resnet20.train with a batch of 128 needs at least ", "40.0 MiB are given", "where nothing is made again)", " launches made again (+", "--batch " } },
    { "$DETENT dump resnet20 --memory=1M", EXIT_MISTAKE, { "1.0 MiB are given", "no batch fits: more memory" } },
    { "$DETENT dump resnet20 --memory=100M --disable-pass=rematerialize", EXIT_MISTAKE, { "needs at least 187.", "the largest batch that fits is " } },
    { "$DETENT compile resnet20 --memory=40M --backend=null", EXIT_MISTAKE, { "needs at least ", "40.0 MiB are given" } },
    { "$DETENT bench resnet20 --bits=float --mode=train --memory=40M", EXIT_MISTAKE, { "needs at least ", "40.0 MiB are given" } },
    { "$DETENT train mnist --data=$DATA --memory=20M", EXIT_MISTAKE, { "--memory: mnist with a batch of 64 needs at least ", "20.0 MiB are given", "the program itself and its data set take ", "no batch fits" } },
    { "$DETENT train mnist --data=$DATA --memory=2M --backend=null", EXIT_MISTAKE, { "--memory: mnist with a batch of 64 needs at least ", "2.0 MiB are given" } },
    { "$DETENT bench mnist --backend=null --kernels", EXIT_USAGE, { "--kernels: expected --backend cpu", "found null", "--profile" } },
    { "$DETENT bench mnist --backend=null --gpu-memory=1M", EXIT_MISTAKE, { "no batch fits: " } },
};

static const Mistake recipes[] = {
    { "$DETENT info mnist --method=lqs", EXIT_USAGE, { "--method: expected float, ptq, qat, lsq, ", " found 'lqs'", "did you mean lsq" } },
    { "$DETENT info mnist --bits=w4a4", EXIT_USAGE, { "--bits: method 'float' does not quantize", "add --method lsq" } },
    { "$DETENT info mnist --layer=conv1=w4a4", EXIT_USAGE, { "--layer: method 'float' does not quantize" } },
    { "$DETENT info mnist --method=lsq --bits=w9a4", EXIT_USAGE, { "--bits: expected bits such as w4a8", "found 'w9a4'", "bits are 2 to 8" } },
    { "$DETENT info mnist --method=lsq --bits=w1", EXIT_USAGE, { "found 'w1'" } },
    { "$DETENT info mnist --method=lsq --bits=", EXIT_USAGE, { "expected bits such as", "found ''" } },
    { "$DETENT info mnist --method=lsq --edge-bits=9", EXIT_USAGE, { "--edge-bits: expected an integer from 0 to 8, found '9'" } },
    { "$DETENT info mnist --method=lsq --layer=conv1", EXIT_USAGE, { "--layer: expected PATTERN=wNaM or PATTERN=float, found 'conv1'" } },
    { "$DETENT info mnist --method=lsq --layer=conv1=w44", EXIT_USAGE, { "--layer: expected bits", "found 'w44' in 'conv1=w44'" } },
    { "$DETENT info mnist --method=lsq --layer=conv9=w4a4", EXIT_MISTAKE, { "--layer: unknown layer 'conv9'; nearest are conv1 or conv2", "layers are conv1, conv2, fc1, fc2" } },
    { "$DETENT info mnist --recipe=./nowhere.recipe", EXIT_USAGE, { "nowhere.recipe: No such file" } },
    { "printf 'method = lsq\nbits = w9\n' > r; $DETENT info mnist --recipe=r", EXIT_USAGE, { "r:2: error: recipe: bits: expected bits such as w4a8", "found 'w9'" } },
    { "printf 'bits = w4a4\n[s9.*]\nbits = w8a8\n' > r; $DETENT info resnet20 --method lsq --recipe=r", EXIT_MISTAKE, { "r:3: error: recipe: bits: unknown layer 's9.*'" } },
    { "printf '[head]\nbits = w1\n' > r; $DETENT info resnet20 --method lsq --recipe=r", EXIT_USAGE, { "r:2: error: recipe: bits: expected bits", "found 'w1' in 'head=w1'" } },
    { "printf 'method: lsq\n[head]\nbit = w4\n' > r; $DETENT info resnet20 --recipe=r", EXIT_USAGE, { "r:3: error: recipe: expected method, bits, edge-bits", "did you mean bits?" } },
    { "$DETENT train mnist --method=lsq --epochs=0", EXIT_USAGE, { "--epochs: expected at least 1 for method lsq, found 0", "0 is for ptq" } },
    { "$DETENT dump mnist --at-epoch=3", EXIT_USAGE, { "--at-epoch: expected an epoch from 0 to below 3, found '3'", "1.5/10 is in the middle" } },
    { "$DETENT dump mnist --at-epoch=1/x", EXIT_USAGE, { "--at-epoch: expected an epoch", "found '1/x'" } },
    { "$DETENT recipes lsq-w4", EXIT_MISTAKE, { "detent recipes: expected", "found 'lsq-w4'", "did you mean lsq-w4a4" } },
    { "$DETENT recipes a b", EXIT_USAGE, { "expected one name, found 'b' too" } },
    { "$DETENT info resnet20 --method=lsq --layer='s4.*=w4a4'", EXIT_MISTAKE, { "--layer: unknown layer 's4.*'" } },
};

static const Mistake passes[] = {
    { "$DETENT dump mnist --stop-after=fus", EXIT_MISTAKE, { "--stop-after: no pass 'fus'; nearest: fuse", "passes are canonicalize, " } },
    { "$DETENT dump mnist --passes=simplfy", EXIT_MISTAKE, { "--passes: no pass 'simplfy'; nearest: simplify" } },
    { "$DETENT dump mnist --disable-pass=lower", EXIT_MISTAKE, { "--disable-pass: lower is required", "passes that can be left out are" } },
    { "$DETENT dump mnist --print-ir-after=fuse:2", EXIT_MISTAKE, { "--print-ir-after=fuse:2: fuse runs 1 time in the train step", "the pipeline is canonicalize," } },
    { "$DETENT dump mnist --passes=fuse", EXIT_MISTAKE, { "fuse: expects a graph of phase layout", "run decompose first" } },
    { "$DETENT compile mnist --stop-after=fuse", EXIT_MISTAKE, { "--stop-after, --passes: expected a pipeline up to lower" } },
    { "$DETENT dump mnist --verify=sometimes", EXIT_USAGE, { "--verify: expected changed, all or off, found 'sometimes'" } },
    { "DETENT_BISECT=foo $DETENT dump mnist", EXIT_MISTAKE, { "DETENT_BISECT=foo: expected a number of passes" } },
    { "$DETENT dump mnist --bisect-run=no-such-command", EXIT_MISTAKE, { "--bisect-run: the shell cannot run 'no-such-command'" } },
    { "$DETENT dump mnist --print-ir-dir=/proc/nothing", EXIT_MISTAKE, { "cannot make directory /proc/nothing" } },
    { "$DETENT compile $NETS/tiny.c --dump-kernels=/proc/nothing --cache=off", EXIT_MISTAKE, { "/proc/nothing" } },
};

static const Mistake texts[] = {
    { "$OPT nothing.dtir", EXIT_MISTAKE, { "cannot read nothing.dtir: No such file", "help: " } },
    { "$OPT a b", EXIT_USAGE, { "expected one file, found 'b' too" } },
    { "$OPT -o", EXIT_USAGE, { "-o: expected a file, found the end" } },
    { "$OPT --stop-after=fuse < /dev/null", EXIT_USAGE, { "need a pipeline, and none is given", "add --passes=LIST" } },
    { "$OPT < /dev/null", EXIT_MISTAKE, { "<stdin>:1: error: parse: expected 'graph' at the beginning, found the end" } },
    { "echo '# Detent' | $OPT", EXIT_MISTAKE, { "<stdin>:1: error: parse: expected 'graph'" } },
    { "printf 'graph @x {\\n  %%0 = input \"x\" : f32[2]\\n  %%1 = rely %%0 : f32[2]\\n}\\n' > x; $OPT x", EXIT_MISTAKE, { "x:3: error: parse: unknown op 'rely'", "did you mean relu" } },
    { "printf 'graph @x {\\n  %%0 = input \"x\" : f32[2]\\n  %%1 = relu %%7 : f32[2]\\n}\\n' > x; $OPT x", EXIT_MISTAKE, { "x:3: error: ", "%7" } },
    { "printf 'graph @x {\\n  %%0 = input \"x\" : f32[2]\\n  %%1 = relu %%0 : f32[3]\\n}\\n' > x; $OPT x", EXIT_MISTAKE, { "x:3: error: verify: types: %1 = relu says f32[3], its inputs give f32[2]" } },
    { "printf 'graph @x {\\n  %%0 = input \"x\" : f32[2]\\n' > x; $OPT x", EXIT_MISTAKE, { "x:3: error: ", "expected" } },
    { "$OPT --run $SRC/README.md", EXIT_MISTAKE, { "README.md:1: error: kernel: expected 'kernel', found '# Detent'" } },
    { "$DETENT dump mnist --stop-after=autodiff | $OPT --passes=canonicalize,nothing", EXIT_MISTAKE, { "--passes: no pass 'nothing'" } },
    { "$DETENT dump mnist | $OPT --method=lqs --passes=lower", EXIT_MISTAKE, { "--method: expected float, ptq, qat, lsq, ", "found 'lqs'" } },
};

static const Mistake networks[] = {
    { "echo 'int x;' > e.c; $DETENT info e.c", EXIT_MISTAKE, { "e.c: error: there is no network in this file", "declare one: dt_model(my_net" } },
    { "echo 'int x' > e.c; $DETENT info e.c", EXIT_MISTAKE, { "e.c:1: error: cc failed:" } },
    { "sed 's/conv2d(x, 4, 3/conv2d(x, 4, 99/' $NETS/tiny.c > e.c; $DETENT train e.c --data $DATA", EXIT_MISTAKE, { "e.c:9: error: conv2d: " } },
    { "sed 's/dt_classes()/7/' $NETS/tiny.c > e.c; $DETENT dump e.c", EXIT_MISTAKE, { "e.c:11: ", "7", "10" } },
    { "CC=no-such-cc $DETENT info $NETS/tiny.c", EXIT_MISTAKE, { "cannot run the C compiler no-such-cc", "say which one in $CC" } },
    { "DETENT_INCLUDE=/nothing $DETENT info $NETS/tiny.c", EXIT_MISTAKE, { "DETENT_INCLUDE is /nothing, but there is no /nothing/frontend/detent.h" } },
    { "TMPDIR=/nothing $DETENT info $NETS/tiny.c", EXIT_MISTAKE, { "cannot make a temporary folder /nothing/" } },
    { "$DETENT info mnist --batch 60000", EXIT_MISTAKE, { "models/mnist.c:11: error: conv2d: ", "more than 2^31 - 1 elements" } },
};

/* bad/: the digits, as links that each case replaces by something else. */
#define BAD "rm -rf bad; mkdir bad; ln -s $DATA/*.gz bad; cd bad; "
#define TRAIN_BAD "; cd ..; $DETENT train $NETS/tiny.c --data bad"
static const Mistake data[] = {
    { "$DETENT train mnist --data $DATA --image 28y28", EXIT_USAGE, { "--image: expected HEIGHTxWIDTH, each 1 to", "found '28y28'" } },
    { "$DETENT train mnist --data $DATA --image 32x28", EXIT_MISTAKE, { "mnist: the network expects images of 1x32x28, mnist has 1x28x28", "add --image 28x28" } },
    { "$DETENT train mnist --data $DATA --classes 5", EXIT_MISTAKE, { "mnist: the network has 5 classes, mnist has 10", "add --classes 10" } },
    { "$DETENT train mnist --data $DATA --test-image 14", EXIT_MISTAKE, { "--test-image: expected 28x28, the size of mnist, found 14" } },
    { "$DETENT train $NETS/denoise.c --data $DATA --dataset mnist", EXIT_MISTAKE, { "denoise: the network makes pictures, mnist has pictures with classes" } },
    { "$DETENT train $NETS/denoise.c --data $DATA --classes 3", EXIT_USAGE, { "--classes: expected a network that tells classes, found denoise" } },
    { "$DETENT train mnist --data $DATA --randaugment 2:x", EXIT_MISTAKE, { "--randaugment: expected N or N:M", "found '2:x'" } },
    { "$DETENT train mnist --data $DATA --no-augment --erase 0.1", EXIT_MISTAKE, { "--no-augment: expected neither --colour, --erase nor --randaugment" } },
    { "$DETENT train mnist", EXIT_MISTAKE, { "--data: expected the directory that holds mnist", "add --data DIR" } },
    { "$DETENT train mnist --data /nothing", EXIT_MISTAKE, { "mnist: there is no directory /nothing", "looked in it and in its MNIST/raw for train-images-idx3-ubyte" } },
    { "mkdir -p empty; $DETENT train mnist --data empty", EXIT_MISTAKE, { "mnist: empty has none of the data files", "looked in it" } },
    { "$DETENT train mnist --data $DATA/README.md", EXIT_MISTAKE, { "is a file, expected the directory of the data" } },
    { "$DETENT train mnist --data $DATA --dataset mnits", EXIT_MISTAKE, { "no dataset is called 'mnits'; there are mnist, cifar10", "did you mean mnist?" } },
    { "$DETENT train resnet20 --data $DATA --dataset mnist", EXIT_MISTAKE, { "resnet20: the network expects images of 3x32x32, mnist has 1x28x28", "--dataset" } },
    { "sed 's/.classes = 10/.classes = 7/' $NETS/tiny.c > seven.c; $DETENT train seven.c --data $DATA", EXIT_MISTAKE, { "tiny: the network has 7 classes, mnist has 10" } },
    { "sed 's/\"mnist\", .batch/.batch/' $NETS/tiny.c > free.c; $DETENT train free.c --data $DATA", EXIT_MISTAKE, { "--dataset: expected the name of a data set, found none", "add --dataset mnist" } },
    { "$DETENT train $NETS/tiny.c --data $DATA --batch 6001", EXIT_MISTAKE, { "a batch of 6001 is larger than the training set of mnist, 6000 samples", "at most 6000" } },
    { BAD "rm t10k-labels*" TRAIN_BAD, EXIT_MISTAKE, { "bad lacks the test labels: no t10k-labels-idx1-ubyte" } },
    { BAD "rm train-i*; head -c 5000 $DATA/train-images-idx3-ubyte.gz > train-images-idx3-ubyte.gz" TRAIN_BAD, EXIT_MISTAKE, { "bad/train-images-idx3-ubyte.gz is cut off", "fetch the file again" } },
    { BAD "rm train-i*; echo hello > train-images-idx3-ubyte" TRAIN_BAD, EXIT_MISTAKE, { "bad/train-images-idx3-ubyte is cut off: 16 bytes were expected" } },
    { BAD "rm train-i*; cp train-labels-idx1-ubyte.gz train-images-idx3-ubyte.gz" TRAIN_BAD, EXIT_MISTAKE, { "it begins with 0x00000801, expected 0x00000803" } },
    { BAD "rm train-i*; echo 'no gzip at all, but long enough to be read' > train-images-idx3-ubyte.gz" TRAIN_BAD, EXIT_MISTAKE, { "bad/train-images-idx3-ubyte.gz", "expected 0x00000803" } },
    { BAD "rm t10k-l*; cp train-labels-idx1-ubyte.gz t10k-labels-idx1-ubyte.gz" TRAIN_BAD, EXIT_MISTAKE, { "1000 test images in bad/t10k-images-idx3-ubyte.gz, but 6000 labels" } },
    { BAD "rm t10k-l*; (zcat $DATA/t10k-l*.gz; echo more) > t10k-labels-idx1-ubyte" TRAIN_BAD, EXIT_MISTAKE, { "goes on after the 1000 samples" } },
    { BAD "rm t10k-l*; (zcat $DATA/t10k-l*.gz | head -c 1007; printf '\\012') > t10k-labels-idx1-ubyte" TRAIN_BAD, EXIT_MISTAKE, { "label 10 of sample 999 is none of 0..9" } },
    { "$DETENT train resnet20 --data $DATA", EXIT_MISTAKE, { "cifar10: ", "has none of the data files", "data_batch_1.bin to data_batch_5.bin" } },
    { "mkdir c10; for i in 1 2 3 4 5; do head -c 30730 /dev/zero > c10/data_batch_$i.bin; done; cp c10/data_batch_1.bin c10/test_batch.bin\n"
      "head -c 30729 c10/test_batch.bin > c10/data_batch_3.bin; $DETENT train resnet20 --data c10", EXIT_MISTAKE, { "c10/data_batch_3.bin has 30729 bytes, expected a multiple of 3073", "fetch the file again" } },
    { "rm c10/data_batch_3.bin; $DETENT train resnet20 --data c10", EXIT_MISTAKE, { "c10/data_batch_3.bin is missing" } },
    { "(printf '\\012'; head -c 3072 /dev/zero) > c10/data_batch_3.bin; $DETENT train resnet20 --data c10", EXIT_MISTAKE, { "label 10 of record 0 is none of 0..9" } },
};

/* run/: three steps of tiny.c in float. Cases copy it. */
#define RUN "rm -rf bad; cp -r run bad; "
#define WEIGHTS "run/last.safetensors"
#define EVAL_BAD "; $DETENT eval $NETS/tiny.c --data $DATA --checkpoint bad/w"
static const Mistake checkpoints[] = {
    { "$DETENT eval mnist --data $DATA", EXIT_USAGE, { "eval: expected weights: --checkpoint FILE, or --resume RUN" } },
    { "$DETENT eval mnist --data $DATA --checkpoint nothing", EXIT_MISTAKE, { "cannot read nothing: No such file", "check its spelling" } },
    { "$DETENT eval mnist --data $DATA --checkpoint .", EXIT_MISTAKE, { "this is a directory; name a file" } },
    { "$DETENT eval mnist --data $DATA --checkpoint $SRC/README.md", EXIT_MISTAKE, { "README.md is no safetensors file" } },
    { "$DETENT eval mnist --data $DATA --checkpoint " WEIGHTS, EXIT_MISTAKE, { "expected weights of network mnist, found those of tiny" } },
    { "$DETENT eval $NETS/tiny.c --checkpoint " WEIGHTS, EXIT_MISTAKE, { "--data: expected the directory" } },
    { "$DETENT eval $NETS/tiny.c --data $DATA --method lsq --checkpoint " WEIGHTS, EXIT_MISTAKE, { "was trained with --method float --bits float; the command line says --method lsq --bits w8a8", "leave these options out" } },
    { RUN "head -c 4 " WEIGHTS " > bad/w" EVAL_BAD, EXIT_MISTAKE, { "bad/w is no safetensors file" } },
    { RUN "head -c 400 " WEIGHTS " > bad/w" EVAL_BAD, EXIT_MISTAKE, { "bad/w is cut off: its header takes" } },
    { RUN "head -c -4 " WEIGHTS " > bad/w" EVAL_BAD, EXIT_MISTAKE, { "bad/w: tensor fc1.bias.velocity lies at bytes", "bytes of data" } },
    { RUN "cp " WEIGHTS " bad/w; printf '}' | dd of=bad/w conv=notrunc bs=1 seek=9 2>/dev/null" EVAL_BAD, EXIT_MISTAKE, { "bad/w: bad header at byte" } },
    { RUN "cp " WEIGHTS " bad/w; printf 'x' | dd of=bad/w conv=notrunc bs=1 seek=9000 2>/dev/null" EVAL_BAD, EXIT_MISTAKE, { "bad/w is damaged: its checksum is" } },
    { "cp nan.safetensors w; $DETENT eval $NETS/tiny.c --data $DATA --checkpoint w", EXIT_MISTAKE, { "w: tensor ", "holds NaN at element" } },
    { "$DETENT train $NETS/tiny.c --data $DATA --init nan.safetensors --out fresh", EXIT_MISTAKE, { "holds NaN at element" } },
    { "$DETENT train $NETS/tiny.c --data $DATA --init nothing --out fresh", EXIT_MISTAKE, { "cannot read nothing" } },
    { "sed 's/conv2d(x, 4, 3/conv2d(x, 8, 3/' $NETS/tiny.c > wide.c; $DETENT train wide.c --data $DATA --init " WEIGHTS " --out fresh", EXIT_MISTAKE, { " tensors differ from the network's: tensor conv1.weight is F32[4, 1, 3, 3], the network has F32[8, 1, 3, 3]; ", "it was saved by the network tiny" } },
    { "mkdir -p empty; $DETENT train --resume empty", EXIT_MISTAKE, { "cannot read empty/args.json" } },
    { "$DETENT eval --resume nothing", EXIT_MISTAKE, { "cannot read nothing/args.json" } },
    { "$DETENT train $NETS/tiny.c --data $DATA --out run", EXIT_MISTAKE, { "run holds a run already", "go on with it by --resume run" } },
    { "$DETENT train --resume run --out other", EXIT_USAGE, { "--out: expected no such option beside --resume" } },
    { "$DETENT train --resume run --init " WEIGHTS, EXIT_USAGE, { "--init: expected no such option beside --resume" } },
    { "$DETENT train --resume run --batch 16", EXIT_MISTAKE, { "--batch: expected 32, as the run that is resumed has it, found 16", "a run keeps its arguments" } },
    { "$DETENT train mnist --resume run", EXIT_MISTAKE, { "is of another run: net is mnist here and tiny there" } },
    { RUN "echo '{' > bad/args.json; $DETENT train --resume bad", EXIT_MISTAKE, { "bad/args.json:2: error: run: string or '}' expected" } },
    { RUN "sed -i 's/tiny.c/gone.c/' bad/args.json; $DETENT train --resume bad", EXIT_MISTAKE, { "cannot read ", "gone.c" } },
    { RUN "sed -i '/\"net\"/d' bad/args.json; $DETENT train --resume bad", EXIT_MISTAKE, { "--resume: expected the network's name in bad/args.json" } },
    { RUN "sed -i 's/\"lr\": \"0.05\"/\"lr\": \"zero\"/' bad/args.json; $DETENT train --resume bad", EXIT_MISTAKE, { "--lr: expected a number from 1e-09 to 1000, found 'zero'" } },
    { RUN "sed -i 's/\"seed\": \"1\"/\"seed\": \"2\"/' bad/args.json; $DETENT train --resume bad", EXIT_MISTAKE, { "is of another run: seed is 2 here and 1 there" } },
    { RUN "rm -f bad/last.previous.safetensors; head -c 100 " WEIGHTS " > bad/last.safetensors; $DETENT train --resume bad", EXIT_MISTAKE, { "bad/last.safetensors is cut off" } },
    { RUN "for f in last last.previous; do head -c 100 " WEIGHTS " > bad/$f.safetensors; done; $DETENT train --resume bad", EXIT_MISTAKE, { "bad/last.safetensors is cut off" } },
    { "$DETENT train $NETS/tiny.c --data $DATA --out /proc/nothing", EXIT_MISTAKE, { "cannot make directory /proc/nothing" } },
    { "$DETENT train mnist --data $DATA --schedule sine", EXIT_MISTAKE, { "schedule: 'sine' is none of cosine, constant", "for instance step:100,150:0.1" } },
    { "$DETENT train mnist --data $DATA --schedule step:5,3", EXIT_MISTAKE, { "epoch 3 after epoch 5: milestones must rise" } },
    { "$DETENT train mnist --data $DATA --schedule exp:0.97", EXIT_MISTAKE, { "schedule: 'exp:0.97' is none of", "exp:GAMMA:EPOCHS" } },
    { "$DETENT train mnist --data $DATA --schedule one-cycle --warmup 1", EXIT_MISTAKE, { "one-cycle begins with a warm-up of its own", "leave --warmup out" } },
    { "$DETENT train mnist --data $DATA --optimizer adma", EXIT_USAGE, { "--optimizer: expected one of sgd, adam, adamw, rmsprop, rmsprop-tf, adadelta, found 'adma'", "did you mean adam or adamw?" } },
    { "$DETENT train mnist --data $DATA --beta1 0.8", EXIT_USAGE, { "--beta1: optimizer sgd does not read it", "sgd reads momentum nesterov" } },
    { "$DETENT dump mnist --optimizer adam --momentum 0.9", EXIT_USAGE, { "--momentum: optimizer adam does not read it" } },
    { "$DETENT dump mnist --optimizer adamw --nesterov", EXIT_USAGE, { "--nesterov: optimizer adamw does not read it" } },
    { "printf 'optimizer = adagrad\\n' > o.recipe; $DETENT dump mnist --recipe o.recipe", EXIT_USAGE, { "o.recipe:1: error: ", "found 'adagrad'" } },
    { "$DETENT dump mnist --freeze fc9.*", EXIT_MISTAKE, { "--freeze: expected a pattern that matches params, 'fc9.*' matches none" } },
    { "$DETENT dump mnist --freeze 'fc1.*@soon'", EXIT_USAGE, { "--freeze: expected PATTERN or PATTERN@EPOCH, found 'fc1.*@soon'" } },
    { "$DETENT dump mnist --freeze '*'", EXIT_MISTAKE, { "the loss depends on no param", "there is nothing to train" } },
    { "$DETENT dump mnist --teacher-net resnet20", EXIT_USAGE, { "--teacher-net: expected --teacher FILE beside it" } },
    { "$DETENT dump mnist --teacher f.safetensors --teacher-net resnet20", EXIT_MISTAKE, { "teacher: resnet20 takes images of 3x32x32, expected 1x28x28 as mnist does" } },
    { "$DETENT train mnist --data $DATA --teacher nothing.safetensors", EXIT_MISTAKE, { "nothing.safetensors" } },
    { "$DETENT train mnist --data $DATA --accumulate 0", EXIT_USAGE, { "--accumulate: expected an integer from 1 to 65536, found '0'" } },
    { "$DETENT train mnist --data $DATA --warmup 20", EXIT_MISTAKE, { "a warm-up of 20 epochs does not fit in 3" } },
};
/* clang-format on */

#define MISTAKE_TEST(table)                                                                                            \
    static void test_##table(void **state)                                                                             \
    {                                                                                                                  \
        run_mistakes(*state, table, DT_COUNT(table));                                                                  \
    }
MISTAKE_TEST(words)
MISTAKE_TEST(gpus)
MISTAKE_TEST(recipes)
MISTAKE_TEST(passes)
MISTAKE_TEST(texts)
MISTAKE_TEST(networks)
MISTAKE_TEST(data)
MISTAKE_TEST(checkpoints)

/* A loss that is not finite ends the run; the checkpoint before it stays. */
static void test_divergence(void **state)
{
    Cli *c = *state;
    cli_ok(c,
           "cat > hot.c <<'END'\n"
           "#include \"frontend/detent.h\"\n"
           "dt_model(hot, \"products of weights\", .image = { 1, 28, 28 }, .classes = 10, .training = { \"mnist\" })\n"
           "{\n"
           "    Tensor x = linear(linear(flatten(dt_image()), 8), 8);\n"
           "    return linear(x, dt_classes());\n"
           "}\n"
           "END\n");
    Ran r = cli_expect(c, EXIT_MISTAKE, "$DETENT train hot.c --data $DATA --lr 1000 --out hot");
    assert_int_equal(count_errors(r.err), 1);
    assert_in(r, r.err, "train: the loss is ");
    assert_in(r, r.err, "try a smaller learning rate");
    cli_ok(c, "$DETENT eval --resume hot"); /* what is there can be read */
}

/* A disk that fills up: a limit on the size of files, which lets writes fail as a full disk does. What was saved before
 * is there, byte for byte, and nothing half-written beside it. */
static void test_full_disk(void **state)
{
    Cli *c = *state;
#ifdef __SANITIZE_THREAD__
    skip(); /* the sanitizer's own memory lies in files and dies of the limit */
#endif
    cli_ok(c, "$MY_NET train --data $DATA --batch 8 --max-steps 1 --quiet --out full; cp full/last.safetensors before; "
              "ls full > names");
    Ran r =
        cli_sh(c, "trap '' XFSZ; ulimit -f 16; exec $MY_NET train --resume full --max-steps 2"); /* 16 KiB at most */
    assert_int_equal(r.code, EXIT_MISTAKE);
    assert_int_equal(count_errors(r.err), 1);
    assert_in(r, r.err, "cannot write full/last.safetensors");
    cli_ok(c, "cmp before full/last.safetensors; ls full | cmp - names");
    cli_ok(c, "$MY_NET train --resume full --max-steps 2 --quiet"); /* once there is room again */
    r = cli_sh(c, "$DETENT dump mnist --print-ir-dir=/dev/full");
    assert_int_equal(r.code, EXIT_MISTAKE);
    cli_ok(c, "echo old > o.dtir");
    r = cli_sh(c, "$DETENT dump mnist > m.dtir; trap '' XFSZ; ulimit -f 8; exec $OPT m.dtir -o o.dtir");
    assert_int_equal(r.code, EXIT_MISTAKE);
    assert_string_equal(cli_read(c, "o.dtir"), "old\n");
    Ran pipe = cli_sh(c, "$OPT m.dtir > /dev/full");
    assert_int_equal(pipe.code, EXIT_MISTAKE);
    assert_in(pipe, pipe.err, "cannot write to stdout");
}

/* The same weights, the last one NaN; without the checksum, which would be the first to notice. */
static void make_nan(Cli *c)
{
    size_t      len = 0;
    char       *bytes = file_read(&c->a, &c->d, cli_path(c, WEIGHTS), &len);
    const float nan = __builtin_nanf("");
    char       *sum = bytes ? memmem(bytes, len, "\"xxh3\"", 6) : NULL;
    assert_non_null(sum);
    memcpy(sum, "\"none\"", 6);
    char *velocity = memmem(bytes, len, "fc1.bias\":", 10); /* a param: velocities are not read by all */
    assert_non_null(velocity);
    int64_t from = strtoll(strstr(velocity, "data_offsets\":[") + strlen("data_offsets\":["), NULL, 10), header = 0;
    memcpy(&header, bytes, sizeof(header));
    memcpy(bytes + 8 + header + from, &nan, sizeof(nan));
    assert_true(file_write_atomic(&c->d, cli_path(c, "nan.safetensors"), bytes, len));
}

static int setup(void **state)
{
    if (cli_setup(state) != 0)
        return -1;
    Cli *c = *state;
    cli_ok(c, "$DETENT train $NETS/tiny.c --data $DATA --max-steps 3 --quiet --out run");
    make_nan(c);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),     cmocka_unit_test(test_gpus),        cmocka_unit_test(test_recipes),
        cmocka_unit_test(test_passes),    cmocka_unit_test(test_texts),       cmocka_unit_test(test_networks),
        cmocka_unit_test(test_data),      cmocka_unit_test(test_checkpoints), cmocka_unit_test(test_divergence),
        cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, setup, cli_teardown);
}
