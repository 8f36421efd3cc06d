import unittest

from tally import Tally, words
from tally.page import page


class Words(unittest.TestCase):
    def test_case_and_punctuation_do_not_matter(self):
        self.assertEqual(words("Stop! Don't stop."), ["stop", "don't", "stop"])

    def test_letters_of_any_language_are_letters(self):
        self.assertEqual(words("Grüße, 世界 42"), ["grüße", "世界"])

    def test_nothing_has_no_words(self):
        self.assertEqual(words(""), [])


class Counts(unittest.TestCase):
    def test_the_most_frequent_come_first_and_ties_in_order(self):
        tally = Tally().read("b a c b").read("c d")
        self.assertEqual(tally.top(3), [("b", 2), ("c", 2), ("a", 1)])
        self.assertEqual(tally.total, 6)


class Page(unittest.TestCase):
    def test_what_was_read_is_escaped(self):
        text = page("<b>", Tally().read("one one"))
        self.assertIn("&lt;b&gt;", text)
        self.assertIn("<td>one</td><td>2</td>", text)


if __name__ == "__main__":
    unittest.main()
