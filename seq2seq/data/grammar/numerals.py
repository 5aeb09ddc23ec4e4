"""Numbers, dates and clock times written out in English and in Chinese.

A grammar file may use each of `GENERATORS` like a category, as in `Q=number(low=2 high=99)`. The
generator draws a value from low to high, and returns the value's forms by language.
"""

import math
import random
from collections.abc import Callable

Forms = dict[str, str]
"""A value in words, by language: `en` and `zh`."""

ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["-", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
DIGITS = "零一二三四五六七八九"
UNITS = ("", "十", "百", "千", "万")
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
]  # fmt: skip
DAYS_IN_MONTH = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
LARGEST_NUMERAL = 99_999


def english_number(n: int) -> str:
    """Return a number from 0 to 99,999 in English: 1,005 is 'one thousand and five'."""
    _check_range(n)
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (f"-{ONES[n % 10]}" if n % 10 else "")
    if n < 1000:
        rest = f" and {english_number(n % 100)}" if n % 100 else ""
        return f"{ONES[n // 100]} hundred{rest}"
    joint = " and " if n % 1000 < 100 else " "
    rest = joint + english_number(n % 1000) if n % 1000 else ""
    return f"{english_number(n // 1000)} thousand{rest}"


def chinese_number(n: int, before_measure: bool = False) -> str:
    """Return a number from 0 to 99,999 in Chinese: 1,005 is 一千零五.

    2 is 两 before 百, 千 and 万, and 二 before 十 and at the end. Alone it is 两 where
    `before_measure` is set (两本书).
    """
    _check_range(n)
    if n < 10:
        return "两" if n == 2 and before_measure else DIGITS[n]
    text = ""
    skipped_zero = False
    for place in range(len(str(n)) - 1, -1, -1):
        digit = n // 10**place % 10
        if digit == 0:
            skipped_zero = True
            continue
        if skipped_zero:
            text += "零"
        skipped_zero = False
        text += ("两" if digit == 2 and place >= 2 else DIGITS[digit]) + UNITS[place]
    return text.removeprefix("一") if n < 20 else text


def date(year: int | None, month: int, day: int) -> Forms:
    """Return a day of the calendar in words.

    'March 5, 1998' is 一九九八年三月五号; without a year, 'March 5' is 三月五号.
    """
    if not 1 <= month <= 12 or not 1 <= day <= DAYS_IN_MONTH[month - 1]:
        raise ValueError(f"month {month}, day {day}: expected a day of the year, not February 29")
    en = f"{MONTHS[month - 1]} {day}" + ("" if year is None else f", {year}")
    zh = f"{chinese_number(month)}月{chinese_number(day)}号"
    return {"en": en, "zh": zh if year is None else chinese_year(year) + zh}


def chinese_year(year: int) -> str:
    """Return a year digit by digit: 1998 is 一九九八年."""
    return "".join(DIGITS[int(digit)] for digit in str(year)) + "年"


def clock(hour: int, minute: int) -> Forms:
    """Return a time of day in words: 15:30 is 'half past three in the afternoon'.

    The hour is 5 to 23, and the minute a multiple of 5.
    """
    if not 5 <= hour <= 23 or minute not in range(0, 60, 5):
        raise ValueError(f"{hour}:{minute}: expected an hour from 5 to 23, minutes in steps of 5")
    en_part, zh_part = _part_of_day(hour)
    return {
        "en": f"{_english_clock(hour, minute)} {en_part}",
        "zh": zh_part + _chinese_clock(hour, minute),
    }


def _english_clock(hour: int, minute: int) -> str:
    """Return a time on the twelve-hour clock in English."""
    words = {15: "a quarter", 30: "half"}
    this, following = ONES[(hour - 1) % 12 + 1], ONES[hour % 12 + 1]
    if minute == 0:
        return f"{this} o'clock"
    if minute <= 30:
        return f"{words.get(minute, english_number(minute))} past {this}"
    return f"{words.get(60 - minute, english_number(60 - minute))} to {following}"


def _chinese_clock(hour: int, minute: int) -> str:
    """Return a time on the twelve-hour clock in Chinese."""
    words = {0: "", 5: "零五分", 15: "一刻", 30: "半"}
    twelve_hour = chinese_number((hour - 1) % 12 + 1, before_measure=True)
    return f"{twelve_hour}点" + words.get(minute, f"{chinese_number(minute)}分")


def _part_of_day(hour: int) -> tuple[str, str]:
    """Return the part of the day in English and in Chinese."""
    if hour < 9:
        return "in the morning", "早上"
    if hour < 12:
        return "in the morning", "上午"
    if hour < 18:
        return "in the afternoon", "中午" if hour == 12 else "下午"
    return "in the evening" if hour < 22 else "at night", "晚上"


def _check_range(n: int) -> None:
    if not 0 <= n <= LARGEST_NUMERAL:
        raise ValueError(f"number {n}: expected 0 to {LARGEST_NUMERAL}")


def _draw_number(rng: random.Random, low: int, high: int) -> Forms:
    """Draw a number from low to high, uniformly on a logarithmic scale.

    Each digit but the first is then set to 0 with a probability of 1/4, for numbers like 20,300.
    """
    n = int(math.exp(rng.uniform(math.log(low), math.log(high + 1))))
    for place in range(len(str(n)) - 1):
        without_digit = n - n // 10**place % 10 * 10**place
        if rng.random() < 0.25 and without_digit >= low:
            n = without_digit
    n = min(n, high)
    return {"en": english_number(n), "zh": chinese_number(n, before_measure=True)}


def _draw_date(rng: random.Random, low: int, high: int) -> Forms:
    """Draw a date from year `low` to year `high`; without a year where `high` is 0."""
    month = rng.randint(1, 12)
    year = rng.randint(low, high) if high else None
    return date(year, month, rng.randint(1, DAYS_IN_MONTH[month - 1]))


def _draw_year(rng: random.Random, low: int, high: int) -> Forms:
    """Draw a year from low to high."""
    year = rng.randint(low, high)
    return {"en": str(year), "zh": chinese_year(year)}


def _draw_clock(rng: random.Random, low: int, high: int) -> Forms:
    """Draw a time of day from hour `low` to 55 minutes past hour `high`."""
    return clock(rng.randint(low, high), 5 * rng.randrange(12))


LANGUAGES = ("en", "zh")
"""The languages of a value's forms."""
BOUNDS = {
    "number": (1, LARGEST_NUMERAL),
    "date": (0, LARGEST_NUMERAL),
    "year": (0, LARGEST_NUMERAL),
    "clock": (5, 23),
}
"""The smallest `low` and the largest `high` of each generator."""
GENERATORS: dict[str, Callable[[random.Random, int, int], Forms]] = {
    "number": _draw_number,
    "date": _draw_date,
    "year": _draw_year,
    "clock": _draw_clock,
}
