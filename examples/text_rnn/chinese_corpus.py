"""Chinese to learn from without a download: sentences that a small grammar of our own writes, seeded.

The sentences are simple on purpose: their words, measure words and word order are regular enough for a small network to
learn within a minute, and the held-out ones are others than those it was trained on.
"""

from __future__ import annotations

import random
import re

# A name in braces stands for one word of the list of that name.
PEOPLE = (
    "我", "妈妈", "爸爸", "弟弟", "妹妹", "爷爷", "奶奶", "老师", "小明", "小红", "我的朋友", "邻居", "同事", "医生",
)  # fmt: skip
TIMES = (
    "今天", "昨天", "明天", "早上", "下午", "晚上", "周末", "星期一", "春天", "夏天", "秋天", "冬天", "放学以后",
    "吃完饭以后",
)  # fmt: skip
PLACES = ("公园", "学校", "图书馆", "超市", "医院", "火车站", "河边", "山上", "办公室", "博物馆", "家里", "咖啡馆")
WEATHER = ("晴天", "阴天", "下雨", "下雪", "刮风", "多云", "很冷", "很热", "很暖和", "很凉快")
FEELINGS = ("高兴", "难过", "着急", "满意", "紧张", "轻松", "累", "放心")
FOODS = ("面条", "米饭", "饺子", "包子", "豆腐", "鸡蛋", "鱼", "青菜", "苹果", "西瓜", "面包", "牛奶")
COOKING = ("炒", "煮", "蒸", "做")
SUBJECTS = ("数学", "语文", "历史", "音乐", "英语", "画画", "书法", "物理")
THINGS = (
    ("一本", "书"), ("一张", "地图"), ("一把", "雨伞"), ("一件", "毛衣"), ("一辆", "自行车"), ("一台", "电脑"),
    ("一只", "小猫"), ("一条", "小狗"), ("一封", "信"), ("一杯", "茶"), ("一双", "鞋"), ("一束", "花"),
)  # fmt: skip
ACTIVITIES = ("散步", "跑步", "看书", "唱歌", "下棋", "打球", "聊天", "学习", "休息", "拍照片", "写作业", "听音乐")
TRAVEL = ("坐火车", "坐飞机", "骑自行车", "开车", "走路", "坐公共汽车", "坐地铁", "坐船")
CITIES = ("北京", "上海", "西安", "成都", "杭州", "昆明", "广州", "哈尔滨")
COLOURS = ("红色", "蓝色", "白色", "黑色", "绿色", "黄色")
TEMPLATES = (
    "{times}{people}在{places}{activities}。",
    "{times}{people}和{people}一起去{places}{activities}。",
    "{people}喜欢在{places}{activities}，因为那里很安静。",
    "{people}{times}{travel}去{cities}，心里很{feelings}。",
    "{cities}{times}{weather}，{people}想在家里{activities}。",
    "如果{times}{weather}，{people}就{travel}去{places}。",
    "{people}送给{people}{thing}，{people}很{feelings}。",
    "{people}在{places}买了{thing}，是{colours}的。",
    "{times}{people}给大家{cooking}{foods}，味道很好。",
    "{people}不喜欢吃{foods}，可是喜欢吃{foods}。",
    "{people}正在学习{subjects}，{people}常常帮助他。",
    "学了一年{subjects}以后，{people}觉得很{feelings}。",
    "你知道{people}为什么{feelings}吗？因为{times}要{travel}去{cities}。",
    "{times}的{places}人很多，{people}找了很久才找到{thing}。",
    "虽然{times}{weather}，但是{people}还是去{places}{activities}。",
    "{people}一边{activities}，一边等{people}。",
)

GOODS = ("手机", "耳机", "键盘", "台灯", "书包", "雨伞", "水杯", "相机", "手表", "电视", "冰箱", "沙发", "鼠标", "背包")
ASPECTS = ("质量", "做工", "外观", "声音", "手感", "颜色", "包装", "性能")
SERVICES = ("客服", "物流", "售后", "卖家", "快递员", "店员")
# (praise, complaint) of the same kind: "不" and "没有" turn one into the other, so that single words do not decide.
GOODS_SAID = (
    ("很好", "很差"), ("不错", "不行"), ("让人满意", "让人失望"), ("比想象的好", "比想象的差"), ("没有问题", "有问题"),
)  # fmt: skip
SERVICES_SAID = (
    ("态度很热情", "态度很冷淡"), ("回复很快", "回复很慢"), ("很有耐心", "没有耐心"), ("解决了问题", "没有解决问题"),
    ("没有让我久等", "让我等了很久"), ("说到做到", "说了不算"),
)  # fmt: skip
SUMMARIES = (
    ("下次还会再买", "下次不会再买"), ("推荐给大家", "不推荐给大家"), ("值得这个价钱", "不值这个价钱"),
    ("用了一个月没有坏", "用了一个星期就坏了"), ("我不后悔", "我很后悔"), ("打算再买一个", "打算退货"),
)  # fmt: skip
REVIEWS = (
    "这个{goods}的{aspects}{goods_said}，{services}{services_said}。",
    "{goods}收到了，{aspects}{goods_said}，{summaries}。",
    "{services}{services_said}，{goods}的{aspects}也{goods_said}。",
    "给家人买的{goods}，{aspects}{goods_said}，{summaries}。",
    "{summaries}，{services}{services_said}，{goods}也{goods_said}。",
    # The other opinion first: what comes after "but" is what counts.
    "虽然{services}{services_other}，但是{goods}的{aspects}{goods_said}，{summaries}。",
    "{aspects}{goods_other}，不过{services}{services_said}，{summaries}。",
)
LABELS = ("好评", "差评")


def chinese_sentences(count: int = 4000, *, seed: int = 0) -> list[str]:
    """Different sentences about everyday life."""
    words = {
        "people": PEOPLE, "times": TIMES, "places": PLACES, "weather": WEATHER, "feelings": FEELINGS, "foods": FOODS,
        "cooking": COOKING, "subjects": SUBJECTS, "thing": tuple(map("".join, THINGS)), "activities": ACTIVITIES,
        "travel": TRAVEL, "cities": CITIES, "colours": COLOURS,
    }  # fmt: skip
    choose = random.Random(seed)
    sentences: dict[str, None] = {}
    while len(sentences) < count:
        sentences[_fill(choose.choice(TEMPLATES), words, choose)] = None
    return list(sentences)


def chinese_labelled(count: int = 3000, *, seed: int = 0) -> list[tuple[str, str]]:
    """(review, label) pairs: whether somebody who bought something praises it or complains."""
    choose = random.Random(seed)
    labels: dict[str, str] = {}
    while len(labels) < count:
        side = len(labels) % len(LABELS)
        words = {
            "goods": GOODS, "aspects": ASPECTS, "services": SERVICES,
            "goods_said": tuple(pair[side] for pair in GOODS_SAID),
            "services_said": tuple(pair[side] for pair in SERVICES_SAID),
            "goods_other": tuple(pair[1 - side] for pair in GOODS_SAID),
            "services_other": tuple(pair[1 - side] for pair in SERVICES_SAID),
            "summaries": tuple(pair[side] for pair in SUMMARIES),
        }  # fmt: skip
        labels[_fill(choose.choice(REVIEWS), words, choose)] = LABELS[side]
    return list(labels.items())


def _fill(template: str, words: dict[str, tuple[str, ...]], choose: random.Random) -> str:
    """Replace each name in braces by a word of its list, none twice within the sentence."""
    used: set[str] = set()

    def word(match: re.Match[str]) -> str:
        chosen = choose.choice([candidate for candidate in words[match[1]] if candidate not in used])
        used.add(chosen)
        return chosen

    return re.sub(r"\{(\w+)\}", word, template)
