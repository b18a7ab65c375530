#!/usr/bin/env python3
"""Networks that make pictures, through the whole program: training on pairs in float and quantized, measures, whole
pictures of another size than the crops that are trained on, and what the command line changes of a network.
"""
import math
import os
import unittest

import e2e

DENOISE = os.path.join(e2e.SOURCE, "tests/nets/denoise.c")
RGB = os.path.join(e2e.SOURCE, "tests/nets/rgb.c")
FLOAT = ("--epochs", "12", "--crops", "16", "--lr", "0.03", "--optimizer", "adam", "--log-every", "10", "--image", "24x20")
SIGMA = 20
NOISY_PSNR = 10 * math.log10(255 * 255 / (SIGMA * SIGMA))  # of the noisy pictures, but for what is clamped


class Restore(e2e.Case):
    def setUp(self):
        super().setUp()
        self.pairs = e2e.write_pairs(self.path("pairs"), 15, 40, 36, SIGMA)

    def test_float_then_quantized(self):
        last = self.train(DENOISE, "float", *FLOAT, data=self.pairs)
        self.assertGreater(last["best_psnr"], NOISY_PSNR + 1)
        self.assertEqual(sorted(last), sorted(["epoch", "step", "lr", "train_loss", "test_loss", "test_psnr", "best_psnr",
                                               "test_ssim"]))
        best = max(row["test_psnr"] for row in self.csv("float"))
        self.assertEqual(last["best_psnr"], best)
        said = self.detent("eval", "--resume", "float", "--data", self.pairs)
        self.assertIn("PSNR %.2f dB" % best, said)
        self.assertIn("(3 pictures); before: PSNR ", said)  # every 5th of 15
        rows = [row for row in self.jsonl("float") if row["kind"] == "epoch"]
        self.assertLess(abs(rows[0]["test_psnr_input"] - NOISY_PSNR), 0.3)
        self.assertEqual({row["test_ssim_input"] for row in rows}, {rows[0]["test_ssim_input"]})
        tuned = self.train(DENOISE, "lsq", "--method", "lsq", "--bits", "w8a8", "--init", "float/best.safetensors", "--epochs",
                           "2", "--crops", "16", "--lr", "0.005", "--optimizer", "adam", "--image", "24x20", data=self.pairs)
        self.assertGreater(tuned["best_psnr"], best - 1)
        rows = [row for row in self.jsonl("lsq") if row["kind"] == "inspect"]
        self.assertEqual(len(rows), 2)  # the quantizers are looked at in the crops' size
        self.assertEqual(set(rows[0]["quantizers"]), {"conv%d.%s" % (i, k) for i in (1, 2, 3) for k in ("weight", "input")})
        for quantizer in rows[0]["quantizers"].values():
            self.assertLessEqual(quantizer["clipped"], 0.5)

    def test_measures_of_sizes_and_batches(self):
        """Whole pictures, whatever the batch; crops; and windows over the border."""
        self.train(DENOISE, "run", "--epochs", "1", "--image", "24", data=self.pairs)
        evaluate = ("eval", DENOISE, "--checkpoint", "run/best.safetensors", "--data", self.pairs)
        whole = self.detent(*evaluate).splitlines()[-1]
        for batch in ("1", "2", "5"):
            self.assertEqual(whole, self.detent(*evaluate, "--eval-batch", batch).splitlines()[-1])
        crop = self.detent(*evaluate, "--test-image", "16x24").splitlines()[-1]
        padded = self.detent(*evaluate, "--ssim", "padded").splitlines()[-1]
        self.assertNotEqual(whole, crop)
        self.assertEqual(whole.split(", SSIM")[0], padded.split(", SSIM")[0])
        self.assertNotEqual(whole, padded)

    def test_post_training(self):
        self.train(DENOISE, "float", *FLOAT, data=self.pairs)
        self.train(DENOISE, "ptq", "--method", "ptq", "--bits", "w8a8", "--init", "float/best.safetensors", data=self.pairs)
        row = self.csv("ptq")[0]
        self.assertEqual(row["epoch"], 0)
        self.assertGreater(row["test_psnr"], self.csv("float")[-1]["best_psnr"] - 0.5)
        said = self.detent("sensitivity", DENOISE, "--method", "ptq", "--bits", "w3a3", "--init", "float/best.safetensors",
                           "--data", self.pairs)
        self.assertIn("denoise in float: PSNR ", said)

    def test_averages_are_what_is_evaluated(self):
        last = self.train(DENOISE, "run", *FLOAT, "--ema", "0.95", data=self.pairs)
        said = self.detent("eval", DENOISE, "--checkpoint", "run/last.safetensors", "--data", self.pairs)
        self.assertIn("PSNR %.2f dB" % last["test_psnr"], said)
        tensors = self.tensors("run")
        self.assertNotEqual(tensors["conv1.weight"], tensors["conv1.weight.ema"])

    def test_reestimated_statistics(self):
        """With a learning rate of almost nothing, the mean over all batches is what the batches say."""
        args = ("--epochs", "1", "--lr", "1e-9", "--image", "24", "--no-augment", "--save-every", "1")
        self.train(DENOISE, "plain", *args, data=self.pairs)
        self.train(DENOISE, "again", *args, "--reestimate-bn", "100", data=self.pairs)
        plain, again = self.tensors("plain"), self.tensors("again")
        self.assertEqual(plain["conv1.weight"], again["conv1.weight"])
        self.assertNotEqual(plain["bn1.running_var"], again["bn1.running_var"])
        # from 1, three steps of momentum 0.1 leave 0.729 of it; the mean has none of it
        for before, now in zip(plain["bn1.running_var"], again["bn1.running_var"]):
            self.assertLess(abs(0.729 + 0.271 * now - before), 0.02 + 0.1 * now)


class Sizes(e2e.Case):
    def test_classes_and_images(self):
        """What the command line changed is in the run and in the checkpoint."""
        data = e2e.write_folder(self.path("folder"), 36, 12, 40, 36, classes=("b", "g", "r", "w"))
        last = self.train(RGB, "run", "--classes", "4", "--image", "24x28", "--epochs", "1", data=data)
        done = self.detent("eval", RGB, "--checkpoint", "run/best.safetensors", "--data", data)
        self.assertIn("accuracy %.2f %%" % last["test_top1"], done)
        self.detent("train", "--resume", "run", "--data", data)
        self.detent("eval", "--resume", "run", "--data", data)
        said = self.detent("train", RGB, "--image", "24", "--data", data, code=1)
        self.assertIn("add --classes 4", said)
        more = self.train(RGB, "more", "--classes", "4", "--image", "24x28", "--epochs", "1", "--eval-batch", "5", data=data)
        self.assertEqual(last, more)


if __name__ == "__main__":
    e2e.main()
