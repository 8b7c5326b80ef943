"""Found and run by `python3 -m unittest` as a guest, not by the project's own tests."""

import unittest


class Sample(unittest.TestCase):
    def test_equal(self) -> None:
        self.assertEqual(sum(range(10)), 45)

    def test_raises(self) -> None:
        with self.assertRaisesRegex(ZeroDivisionError, "division"):
            print(1 // 0)

    @unittest.skip("shown as skipped")
    def test_skipped(self) -> None:
        self.fail("never")
