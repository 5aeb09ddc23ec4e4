"""Numerals, dates and clock times in English and Chinese."""

import pytest

from seq2seq.data.grammar.numerals import chinese_number, chinese_year, clock, date, english_number

# ------------------------------------------------------------------------ numerals, dates, times

NUMBERS = {
    0: ("zero", "零"),
    2: ("two", "二"),
    10: ("ten", "十"),
    12: ("twelve", "十二"),
    20: ("twenty", "二十"),
    22: ("twenty-two", "二十二"),
    100: ("one hundred", "一百"),
    102: ("one hundred and two", "一百零二"),
    110: ("one hundred and ten", "一百一十"),
    200: ("two hundred", "两百"),
    212: ("two hundred and twelve", "两百一十二"),
    999: ("nine hundred and ninety-nine", "九百九十九"),
    1000: ("one thousand", "一千"),
    1005: ("one thousand and five", "一千零五"),
    1010: ("one thousand and ten", "一千零一十"),
    1050: ("one thousand and fifty", "一千零五十"),
    1100: ("one thousand one hundred", "一千一百"),
    2000: ("two thousand", "两千"),
    2002: ("two thousand and two", "两千零二"),
    2200: ("two thousand two hundred", "两千两百"),
    10000: ("ten thousand", "一万"),
    10010: ("ten thousand and ten", "一万零一十"),
    20300: ("twenty thousand three hundred", "两万零三百"),
    22222: ("twenty-two thousand two hundred and twenty-two", "两万两千两百二十二"),
    50005: ("fifty thousand and five", "五万零五"),
    99999: ("ninety-nine thousand nine hundred and ninety-nine", "九万九千九百九十九"),
}


@pytest.mark.parametrize(("n", "forms"), NUMBERS.items())
def test_numbers(n: int, forms: tuple[str, str]) -> None:
    assert (english_number(n), chinese_number(n)) == forms


def test_numbers_are_all_different() -> None:
    assert len({english_number(n) for n in range(100_000)}) == 100_000
    assert len({chinese_number(n) for n in range(100_000)}) == 100_000


def test_two_before_a_measure_word() -> None:
    assert [chinese_number(n, before_measure=True) for n in (2, 12, 20, 22, 102)] == [
        *("两", "十二", "二十", "二十二", "一百零二")
    ]


@pytest.mark.parametrize("n", [-1, 100_000])
def test_numbers_out_of_range_are_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"number {n}: expected 0 to 99999"):
        chinese_number(n)


def test_dates() -> None:
    assert date(1998, 3, 5) == {"en": "March 5, 1998", "zh": "一九九八年三月五号"}
    assert date(2010, 12, 22) == {"en": "December 22, 2010", "zh": "二零一零年十二月二十二号"}
    assert date(None, 10, 2) == {"en": "October 2", "zh": "十月二号"}
    assert chinese_year(2005) == "二零零五年"
    with pytest.raises(ValueError, match="month 2, day 30"):
        date(1998, 2, 30)


@pytest.mark.parametrize(
    ("hour", "minute", "en", "zh"),
    [
        (7, 0, "seven o'clock in the morning", "早上七点"),
        (8, 55, "five to nine in the morning", "早上八点五十五分"),
        (9, 0, "nine o'clock in the morning", "上午九点"),
        (10, 15, "a quarter past ten in the morning", "上午十点一刻"),
        (12, 30, "half past twelve in the afternoon", "中午十二点半"),
        (14, 5, "five past two in the afternoon", "下午两点零五分"),
        (15, 30, "half past three in the afternoon", "下午三点半"),
        (17, 45, "a quarter to six in the afternoon", "下午五点四十五分"),
        (18, 0, "six o'clock in the evening", "晚上六点"),
        (19, 20, "twenty past seven in the evening", "晚上七点二十分"),
        (21, 55, "five to ten in the evening", "晚上九点五十五分"),
        (22, 0, "ten o'clock at night", "晚上十点"),
        (23, 50, "ten to twelve at night", "晚上十一点五十分"),
    ],
)
def test_clock_times(hour: int, minute: int, en: str, zh: str) -> None:
    assert clock(hour, minute) == {"en": en, "zh": zh}


def test_clock_times_are_all_different() -> None:
    times = [clock(hour, minute) for hour in range(5, 24) for minute in range(0, 60, 5)]
    assert len({t["en"] for t in times}) == len({t["zh"] for t in times}) == len(times)


def test_unsupported_clock_times_are_refused() -> None:
    with pytest.raises(ValueError, match="3:7: expected an hour"):
        clock(3, 7)
