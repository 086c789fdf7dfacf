"""Word lists of de-identification: Chinese surnames and given-name characters, English first names, words that look
like names and are none, provinces, states. Made for this project from general knowledge of both languages.
"""

# ruff: noqa: E501  (tables of data; a Chinese character counts as two columns)

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The hundred family surnames and what is common today beside them.
SURNAMES = frozenset(
    "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦尤许何吕施张孔曹严华金魏陶姜戚谢邹喻柏水窦章云苏潘葛奚范彭郎鲁韦昌马苗凤花方俞任袁柳酆鲍史唐"
    "费廉岑薛雷贺倪汤滕殷罗毕郝邬安常乐于时傅皮卞齐康伍余元卜顾孟平黄和穆萧尹姚邵湛汪祁毛禹狄米贝明臧计伏成戴谈宋茅庞熊纪舒屈项祝董梁"
    "杜阮蓝闵席季麻强贾路娄危江童颜郭梅盛林刁钟徐邱骆高夏蔡田樊胡凌霍虞万支柯昝管卢莫经房裘缪干解应宗丁宣贲邓郁单杭洪包诸左石崔吉钮龚"
    "程嵇邢滑裴陆荣翁荀羊於惠甄曲家封芮羿储靳汲邴糜松井段富巫乌焦巴弓牧隗山谷车侯宓蓬全郗班仰秋仲伊宫宁仇栾暴甘钭厉戎祖武符刘景詹束龙"
    "叶幸司韶郜黎蓟薄印宿白怀蒲邰从鄂索咸籍赖卓蔺屠蒙池乔阴胥能苍双闻莘党翟谭贡劳逄姬申扶堵冉宰郦雍却璩桑桂濮牛寿通边扈燕冀郏浦尚农温"
    "别庄晏柴瞿阎充慕连茹习宦艾鱼容向古易慎戈廖庾终暨居衡步都耿满弘匡国文寇广禄阙东欧殳沃利蔚越夔隆师巩厍聂晁勾敖融冷訾辛阚那简饶空曾"
    "毋沙乜养鞠须丰巢关蒯相查后荆红游竺权逯盖益桓公肖闫付代邸仝佟佘冼初刑卿原员商图奉宛展岳帅延战揭撒操敬普晋智服木未朴来染栗楚楼檀次"
    "欧殴氾海涂湯源漆潭激火热牟玄玉珠理瑞甫生留疏百皇盘直真睦矫祈禚种税稽答粟线绪续缑罕美翦聊肇腾臧苑英茶茆萨蒿蔄衣裔覃谌谯豆象贯赏赫赶"
    "起迟述郇郄郎郸酒释钊铁银锁门闪闭阳降陀集青鞏顿颉风香麦黑鄢訚仉冮逯琚么贠尉律揣撖敏斛晓暴旷曲朵杞枚校检槐母洛渠滑滿焉牙犹玛甲礼"
    "權葉劉陳張楊黃趙吳許鄭馮衛蔣韓呂嚴魏陶謝鄒蘇潘葛范彭魯韋馬鳳俞袁鮑費薛賀湯羅畢鄔樂傅齊顧蕭禪談龐紀項藍閔賈婁顏鐘駱萬盧應單陸榮龍蘭"
)
# The surnames of some 95 in 100 people: after a mere word (`患者`) only these begin a name.
COMMON_SURNAMES = frozenset(
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈钟姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫雷龙段郝孔邵"
    "史毛常万顾赖武康贺严钱施牛洪龚汤陶黎温莫易樊乔文安殷颜庄章鲁倪庞邢俞翟蓝聂齐向申葛柴伍覃骆关焦柳欧祝纪尚毕耿芦左季管符辛苗詹曲欧靳祁路涂兰甘裴梅童翁霍游阮尤岳柯牟滕谷舒卜成饶宁凌盛查单冉鲍"
    "华包屈房喻解蒲卫简时连车项闵邬吉党司费蒙席晏隋古强穆姬宫景米麦谈柏瞿艾沙鄢桂窦郁缪畅巩卓褚栾戚全娄甄郎池丛边岑农苟迟保商臧佘卞虞刁冷应匡栗仇练佟封燕桑巫敖原植邝仲荆储宗楼干苑寇盖南屠鞠荣井"
    "乐银奚麻雍闻冼郜廉蔺冀占戴傅阎桑巴云容贝尉奕"
    "劉陳張楊黃趙吳許鄭馮蔣韓呂葉鄧蕭羅盧譚鍾範賴賀嚴錢龔湯魯龐駱關畢齊紀"
)
COMPOUND_SURNAMES = _words(
    "欧阳 太史 端木 上官 司马 东方 独孤 南宫 万俟 闻人 夏侯 诸葛 尉迟 公羊 赫连 澹台 皇甫 宗政 濮阳 公冶 太叔 申屠 公孙 慕容 仲孙 钟离 长孙 宇文 "
    "司徒 鲜于 司空 闾丘 子车 亓官 司寇 巫马 公西 颛孙 壤驷 公良 漆雕 乐正 宰父 谷梁 拓跋 夹谷 轩辕 令狐 段干 百里 呼延 东郭 南门 羊舌 微生 梁丘 "
    "左丘 东门 西门 南荣 第五 纳兰 爱新觉罗 叶赫 那拉 完颜 歐陽 諸葛 司馬"
)
# Surnames that are also frequent words or parts of words: never enough on their own.
WORD_SURNAMES = frozenset(
    "于时常和平成安高黄白明水全双左边应向经从万能方从文易单干计通连管解查相后有关未来国东生直真种起原员终后别充须越益利服热真次甲牙母门"
    "线续绪初代初战海图展理木火检校律银铁黑青红美玉香风酒豆茶象空养那步满古游温冷石车花谷山井松家封曲池阴伏支包强印束司宿能怀农都居商普敬"
    "元玄智染粟豆集降顿闭留疏百盘起迟述释晓敏礼述次检热服"
)
# Characters of given names. Where a cue is weak, every character of a given name must be one of these.
GIVEN_NAME_CHARACTERS = frozenset(
    "伟芳娜秀英敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂志建国华文玉红梅金凤春燕云海波斌林鑫龙飞鹏宇辉凯浩俊峰健亮晨阳雪琴珍莲素淑美玲珠翠萍琳慧"
    "莹倩婷雯洁颖佳怡欣悦诗雨梦瑶思涵子轩梓梓浩宇泽博睿航嘉琪一诺依可心欣妍若曦雅馨蕾薇菲露晶莎瑞祥福贵财富寿康宁德仁义礼智信忠孝廉良善诚实"
    "庆喜乐松柏竹菊荷花香芝芬芹茂荣盛昌隆兴旺发达成功立业振东南西北中正大小元亨利贞永久恒长远新晓旭日昊天朗清江河湖山川岩石峻岭屹岳峦森木树"
    "桐楠枫柳柔柯栋梁材楷桢彬彪虎豹骏驰骋腾翔翰羽鸿雁鹤鸣凌霄宏伟业光耀照辉煌炜烨焕炎灿煜炫炳焱熙煦琦琪瑜瑾璇璐珊珂玮玥琨琼瑛璟琛珏珺玫"
    "瑰环莉茜萱蓉蓓芸芮苗苑茵茹菁萌葵蕊薰蔓黛娇娥婉婕媛嫣妮姗姝姣娴婵媚嫦妙妤如意吉安邦邵国家民族爱党卫兵战胜利和平解放援朝跃进红旗向东卫东"
    "学武文斌武勤俭朴节约先进步前锋标兵模范强生保成全根宝贝来顺发财源进宝招娣引弟来娣爱珍存粮满仓有才有福有根长生长寿万春初夏秋冬冰霜露雷霆"
    "启启明承继祖宗绍先耀祖光宗显荣佑佐辅弼君臣帅将相侯伯仲叔季孟少幼老哲贤圣豪俊雄英才俊彦士达人杰鑫淼磊焱垚晶品森尧舜禹汤文武周公孔仙道"
    "元玄真静虚无极太初逸凡尘缘悟空宁静致远淡泊明志勉励勤奋敬敏捷敦厚朴素雅致简约秉持衡权均平允正直刚毅果敢坚定毅恒贞烈维新改革开创建设昱昕"
    "晗晟晏晔晖暄暖曙曼旻昀昌易星月辰宸宇宙坤乾坎离震巽艮兑鼎铭铮锋锐钢铁银铜钧钊钰铖锦绣缎绮绫罗绢丝绵纯纪纲纶经纬绪维缨继续缘红绿蓝紫丹"
    "青黛彤彩颜容貌姿韵律音乐歌舞诗书画琴棋剑笛箫笙鼓钟磬瑟曲调声响亮丽巧灵珑玲琅璧玺瑄珩璋琮瑚瑭璞理瑶池莺燕鸥鹃鹂雀凤凰鸾鹰隼鲲鹏蛟麒麟狮"
    "运迎迪迅达通遂道逊逢遥连进远近辽阔广博渊深沛沐沁沂沅泉泓泰洲浪润涵淇渝湘滨漫潇潮澄澜瀚灏淳清溢源滔汐汝江汉沙河浦济浓泳港游渲滢漪洪波"
    "奇其冠军凡刘加勋勐化卓占印双友右合向吟含启周咏品哉唯善喆嘉囡园圆坚培城基堂增墨士壮声夏夕多奕奥奎契奋好妹姐娅姬威娜孜学守宾寅容富密尚尤"
    "尹展屏山岚峥崇巍州帆师希常平幸庭庚度延廷弘弟彦彭影征微循心忆志念怀恩恬悠情惠愉慈慕懿成戈戎战扬承扶投抒拓振挺捷掌提敖旋无日昂昭晋晓普景"
    "智朋朔望朝本杏来松极枝栩格桃桥桦棠棣楚榕槿樱欢正武殿毓民水求沈泊津浩海淦港溪煊熠爽牧献玄玉王珈珲琬瑗甫田申男登百皓盈益眉睦石祁祎祐祖祝"
    "禄禾科秦程稳穆穗立竞章端笑筠策筱米粒素紫红纳绍绚罡羚翊翎耘耿聪育胜能自至舒航艺芃芊芷芯苇苏若茗荃荔莎菀菡萃葆葳蒙蓝薪藏蕴虹衍裕褚西言"
    "计训记许诏识诚谊谋谦谨谷豪贝赐赛赞起越路轩辛辰远述逸邑郁都采野钦钱铎铠锡镇镜长门闯闻阔陆陶隽雄雍霁霏霖霓露青非韦音韬顺领颂风食首驹骁高"
    "魁鲁鸽鹭麦黎默齐龄勲豫樂麗偉國華強軍傑濤藍蘭龍鳳雲飛鵬輝凱劍鋒榮興發達鄉"
    "世之亚以仪伊会伦儿克凝力卿叶固宜宽寒政时晴梵烁烟然玛琰纨群苛蝶融行语轮阅霭飘馥骅彧昱妤沅玙珞璎瑷骞骐骜翀翯芙芩芪茉莘菘葭蓁蔚蕴蘅薏旎妗婳娆媞璨灵澍沣湉澔皛祺祯禧稷箬粲"
    "絮缇缦钦铄锴镕韫麒骥曌暐赟鸾禹禺垠埔妘嫚寰峤崧帆彤忻恺悌惟愫懋攀昀昶晞晢曜朵杏柠榆樾歆沫泱洛洵淙渊湫滟漾炅炘焯爱玖玘玢珣琅瑄瑶甜畅皎盼睦睿矜硕碧祉秉穗竺笙筝篁籽纾绾翎肖"
    "胤臻芝芮苒苓茵荀荻莞莹菏萍萤蓝蔓薪虞衡裳覃誉谣谧豆贤赫逵逍邈郡酉钗钿铃银锌镐闵阡陵霈霆霁靓靖韶颀颐颢飒饶驿骢魏鲲鸢鹊黎黔"
)  # fmt: skip
# Two characters that begin a surname and are words: never names after a weak cue, whatever follows.
NOT_NAMES = _words(
    "安静 安宁 安全 安康 安排 安装 安置 平静 平安 平时 平素 平均 平和 康复 康健 温和 温度 温暖 方能 方法 方向 方可 方式 成年 成功 成立 成分 成人 "
    "常见 常有 常规 常年 常用 时常 时有 时间 时光 时候 时而 黄疸 黄染 黄色 黄芪 黄连 黄柏 黄芩 黄体 黄斑 白带 白天 白色 白发 白术 白芍 白细 白蛋 "
    "白内 白血 和平 和睦 和谐 高龄 高烧 高热 高兴 高明 高血 高度 高脂 高尿 高压 高危 高峰 高强 高原 高丽 高级 高中 高等 明显 明确 明日 明天 明年 "
    "向前 向东 向上 向下 向我 金星 金黄 金属 石英 石林 石膏 石淋 江南 江山 于是 于今 于昨 于本 于我 于上 于下 于入 万一 边远 边缘 关心 关爱 关节 "
    "关于 关注 关系 左右 左侧 左上 左下 左肺 左手 左脚 左眼 左耳 左肾 左心 左胸 左腰 左膝 左髋 应用 应该 应急 应当 应予 应在 水平 水利 水肿 水样 "
    "水疱 易感 易发 易于 易怒 易饿 全年 全国 全家 全身 全部 全程 全麻 全血 全天 通过 通常 通知 单纯 单一 单位 单侧 单发 双侧 双下 双上 双眼 双肺 "
    "双手 双肾 双膝 查体 查房 查看 查血 包括 包块 包含 计划 计算 计量 连续 连云 连日 车祸 宫颈 宫缩 宫腔 宫外 经期 经常 经过 经治 经阴 经皮 经口 "
    "经我 经济 从事 从军 从而 从未 国家 国庆 国际 花生 花斑 强烈 强直 强调 严重 严格 严密 文化 文明 文献 文盲 申请 家人 家属 家庭 家中 家长 家族 "
    "家住 服药 服用 服从 顾问 顾虑 管理 管床 管道 解放 解除 解释 解便 解小 曾有 曾经 曾用 曾因 曾在 曾于 曾行 曾患 况且 凌晨 支气 支架 支持 支配 "
    "甘油 甘草 毛发 毛细 毛囊 元旦 元素 项目 相关 相对 相当 相应 未见 未婚 未诉 未予 未再 未行 未育 来院 来我 来自 来诊 生活 生命 生于 生育 生化 "
    "生长 直接 直肠 起病 起床 起身 后续 后背 后期 后因 有关 有无 别名 终末 须知 益处 利用 利尿 热度 次日 甲状 甲胎 牙龈 牙痛 母亲 门诊 门静 线性 "
    "继续 初步 初次 初诊 代谢 代诉 代述 海绵 图像 理解 理学 木僵 检查 检验 检测 校正 规律 黑便 黑色 青年 青霉 青少 红细 红色 红肿 红斑 美国 美容 "
    "玉米 香港 香烟 风湿 风险 风热 风寒 酒精 酒后 豆制 空腹 空气 养成 那时 步行 步态 步骤 满意 满月 古稀 冷汗 冷敷 游离 山药 谷丙 谷草 谷氨 井然 "
    "松解 封闭 封堵 曲霉 曲线 池塘 阴道 阴性 阴囊 阴影 伏案 印象 束支 怀孕 怀疑 农民 农村 都有 居民 居住 商量 普通 普外 敬请 智力 智能 集中 降压 "
    "降低 降钙 降糖 留置 留观 百日 迟发 敏感 礼貌 释放 晓得 国药 能够 能力 能量 能自 能否 能配 尤其 尤以 何时 何种 何处 何以 任何 任意 许可 许多 "
    "孔径 孔源 严禁 华法 华人 金标 陶瓷 姜黄 柏油 章程 云南 范围 鲁米 昌吉 马上 马来 苗条 凤凰 方案 俞穴 任务 袁州 柳氮 史料 唐氏 费用 费力 雷公 "
    "雷贝 雷尼 汤剂 汤药 殷红 罗红 毕业 毕竟 安徽 乐观 乐果 傅立 皮肤 皮下 皮疹 皮质 齐全 伍用 余无 余未 余正 余同 余待 元气 卜卦 顾客 孟鲁 和解 "
    "和尚 和用 尹氏 汪洋 毛巾 米粒 米饭 贝伐 贝母 明目 计数 成因 成熟 戴镜 谈话 宋体 项下 祝您 董事 梁柱 杜绝 杜冷 阮氏 蓝色 席汉 季节 麻醉 麻木 "
    "麻疹 麻黄 路易 危重 危险 危急 江苏 江西 童年 颜色 颜面 梅毒 梅花 盛行 林可 林区 林格 钟形 徐州 徐徐 骆驼 夏季 夏天 田间 胡须 胡萝 胡言 霍乱 "
    "万古 万元 柯萨 管腔 管型 莫名 莫西 房颤 房室 房性 房间 干预 干燥 干咳 干扰 干细 干净 应答 应激 应邀 宗教 丁胺 丁酸 邓氏 洪水 包皮 包膜 包虫 "
    "左氧 左旋 左室 左房 左束 石蜡 吉非 吉西 程度 程序 滑膜 滑脱 裴氏 陆续 荣誉 羊水 惠者 储存 段落 富含 富有 乌头 巴曲 焦虑 焦痂 山楂 车间 车辆 "
    "侯任 全科 班级 秋季 仰卧 仲夏 伊立 伊马 宁愿 暴露 暴发 甘露 厉害 武汉 祖父 祖母 符合 景象 龙胆 叶酸 幸好 幸福 司机 司法 黎明 薄弱 薄层 印度 "
    "白班 白领 白癜 从不 从小 咸味 赖氨 蒙古 蒙药 乔迁 阴茎 阴雨 阴天 能下 双肩 双足 双乳 双肘 双腕 双踝 闻及 党参 劳累 劳动 劳力 申报 扶正 扶助 "
    "扶行 扶入 扶起 扶住 扶坐 夏月 夏日 夏令 夏暑 后天 "
    "堵塞 宰杀 桂枝 牛奶 牛肉 寿命 边界 尚可 尚未 尚无 尚好 尚能 农药 温热 温水 别嘌 庄重 柴胡 充血 充盈 充分 充足 连同 连接 习惯 艾滋 "
    "艾灸 艾司 鱼虾 容易 容量 向心 向左 向右 古典 易激 慎用 慎重 居家 居于 终身 终止 终于 衡量 步入 耿直 满足 匡算 国内 国产 文字 寇氏 广泛 广东 "
    "广西 广州 东莞 欧洲 利多 利福 越来 越南 隆起 师傅 冷冻 冷饮 辛辣 辛伐 那么 那屈 简单 简称 空调 空洞 沙眼 沙丁 养护 丰富 丰满 关闭 查因 查肝 "
    "查无 后来 后遗 后壁 红霉 红润 游走 权威 盖章 益气 公司 公斤 公务 公证 肖像 付费 付款 代表 代偿 本人 患者 病人 同意 拒绝 不详 不明 无殊 暂无 "
    "签名 签字 签章 日期 时刻 医师 医生 护士 主任 姓名 性别 年龄 电话 地址 住址 科室 科别 病区 床号 家人 亲属 朋友 同事 邻居 父子 母女 爱人 老伴 "
    "司药 常务 卫生 卫视 卫健 强化 强度 强阳 高值 高敏 高分 高频 高渗 高效 高位 高钾 高钠 高钙 高糖 水电 水痘 水钠 水合 水溶 水化 成形 成骨 成纤 "
    "成像 常染 平滑 平坦 平扫 平片 平卧 平车 平喘 和胃 安定 安慰 安乃 安瓿 黄褐 黄绿 黄曲 黄脓 白痰 白陶 白介 白斑 白苔 石榴 金葡 金银 文拉 方形 "
    "方剂 明胶 毛玻 毛滴 边际 边清 雷米 罗氏 罗格 罗库 雷诺 马氏 马方 马尾 马铃 高氏 史密 沈阳 鲁氏 布氏 康氏 华氏 华支 柳州 杭州 苏醒 苏州 苏打 "
    "金刚 金山 金华 石家 常州 常德 温州 海南 海口 万科 江门 林州 明了 安好 应有 全无 时无 时不 时感 时诉 常感 常诉 常于 成都 包头 连云 吉林 江阴 "
    "昌平 通州 通辽 黄石 黄冈 黄山 平乐 平顶 宁波 宁夏 宁乡 武昌 荆州 荆门 宜昌 庆大 水仙 水杨 利尿 利培 利血 能量 乐清 和田 和县 东北 东方 华北 "
    "华东 华南 华中 华西 南方 文山 文昌 元江 毛主 华佗 孙思 张仲 李时 扁鹊"
)
# Words that are also names of people: after a mere word they are words, unless sex, age or a title follows.
WORDS_BEFORE_NAMES = _words(
    "张力 张大 张开 张口 张扬 周一 周二 周三 周五 周六 周日 周长 周密 周到 周全 周易 周围 周边 周身 周期 施行 施展 施加 施用 施术 施救 巩固 金融 金钱 金花 金丝 金冠 金子 石门 石化 石桥 石墨 石子 石蕊 简直 简化 简易 "
    "简洁 简明 高大 高山 高尚 高声 高空 高新 高端 高程 高贵 高铁 高考 高歌 高寒 高能 高发 高速 高达 高龄 高明 高效 高亮 高一 高二 高三 高温 高低 高昂 高兴 高度 安放 安心 安稳 安顿 安好 安抚 安然 安详 安坐 温柔 温和 温泉 温顺 温凉 "
    "麻将 麻雀 麻沸 乐意 乐曲 严寒 严峻 严谨 严守 严明 严加 严防 严实 舒展 舒畅 舒适 舒张 舒心 舒服 舒利 莫非 莫大 莫沙 何人 何如 何况 向来 成天 成长 成果 成本 成品 成才 成行 成群 方才 方言 方程 方圆 方便 方形 方案 尚有 尚存 "
    "尚书 尚佳 尚清 尚平 尚软 尚正 房中 房子 房门 房东 宫中 宫内 江湖 江河 江水 江北 江东 江中 江海 王国 王家 韩国 韩氏 文章 文学 文书 文艺 文人 文本 文中 文静 文雅 文具 文秀 纪念 纪律 纪录 季度 季风 韦氏 许久 许家 "
    "林业 林中 林木 庞大 宁可 宁静 盛大 盛开 盛会 马路 马力 马上 马桶 万一 万分 万幸 武力 武士 武术 武装 武警 黄河 黄金 黄豆 黄花 黄道 黄沙 黄昏 黄海 黄酒 黄瓜 白人 白果 白日 白家 白菜 白芷 白及 白芥 白茅 白英 白花 白开 白癜 "
    "苏丹 苏木 苏子 苏叶 苏梗 苏格 苏北 苏南 陆路 陆军 陆地 路程 路子 路桥 史学 史书 龙门 龙骨 龙眼 龙葵 陶土 雷鸣 雷暴 毕生 谈起 谈论 谈及 廉洁 廉价 仇人 穆斯 卫国 卫士 卫兵 党政 党章 党风 骨干 揭开 揭露 庄家 祝福 祝贺 "
    "曲美 曲安 曲张 曲马 曲克 曲折 曲度 洪亮 欧美 欧亚 易发 易怒 易惊 易醒 易出 易疲 易患 易受 单发 单元 单克 单独 单行 单方 单手 古方 柳树 梅雨 梅尼 樊笼 熊去 熊胆 米汤 米诺 米索 米力 麦粒 麦冬 麦芽 麦角 童装 童声 贝类 贝尔 "
    "贝壳 车上 车前 车内 车厢 池中 沙参 沙漠 沙库 沙美 沙丁 沙门 谷胱 谷物 谷维 关怀 关照 关切 管道 管状 管护 程控 倪氏 查对 查出 查明 查尿 全力 全天 全面 全盘 全胃 全髋 全膝 全脑 全子 连声 连日 连夜 连贯 连用 解痉 解毒 解热 "
    "解离 解剖 解冻 花粉 花椒 强心 强力 强行 强迫 强忍 平日 平躺 平常 平静 平稳 平衡 平行 平缓 利福 利妥 利奈 利伐 利格 利拉 利尿 明亮 明了 明智 明白 国庆 东西 冷静 冷清 冷却 和谐 和善 安慰 边检 时好 时常 常规 常温 余下 余生 余震 "
    "游泳 游走 游离 游玩 白沙 江陵 江汉 江夏 江城 江州 郑州 徐州 苏宁 华山 华夏 华沙 宋朝 唐朝 周朝 秦国 齐国 燕山 巫山 景山 景致 岳家 董家 罗家 余家 秦家"
)
# What may directly follow a name.
TITLES = "主任医师|副主任医师|主治医师|住院医师|副主任|主任|医师|医生|大夫|教授|副教授|护士长|护士|护师|院长|副院长|院士|药师|技师|博士|先生|女士|小姐|同志|老师|太太"
PROVINCES = (
    "北京|天津|上海|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南|四川|贵州|云南|陕西|甘肃|青海|台湾|"
    "内蒙古|广西|西藏|宁夏|新疆|香港|澳门"
)
PROVINCE_CODES = _words(
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83"
)
PLATE_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
STATES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|DC|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA|RI|SC|SD|TN|"
    "TX|UT|VT|VA|WA|WV|WI|WY|PR|Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|"
    "Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|Montana|Nebraska|"
    "Nevada|New Hampshire|New Jersey|New Mexico|New York|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|Pennsylvania|Rhode Island|"
    "South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington|West Virginia|Wisconsin|Wyoming"
)
FIRST_NAMES = _words(
    "james robert john michael david william richard joseph thomas christopher charles daniel matthew anthony mark donald steven andrew paul "
    "joshua kenneth kevin brian timothy ronald george jason edward jeffrey ryan jacob nicholas gary eric jonathan stephen larry justin scott "
    "brandon benjamin samuel gregory alexander patrick frank raymond jack dennis jerry tyler aaron jose adam nathan henry zachary douglas peter "
    "kyle noah ethan jeremy walter christian keith roger terry austin sean gerald carl harold dylan arthur lawrence jordan jesse bryan billy "
    "bruce gabriel joe logan alan juan albert willie elijah wayne randy vincent mason roy ralph bobby russell bradley philip eugene louis harry "
    "howard fred carlos victor ernest martin stanley leonard oscar simon stuart graham trevor hugh neil ian colin derek liam owen mary patricia "
    "jennifer linda elizabeth barbara susan jessica karen sarah lisa nancy sandra betty ashley emily kimberly margaret donna michelle carol "
    "amanda melissa deborah stephanie rebecca sharon laura cynthia dorothy amy kathleen angela shirley emma brenda pamela nicole anna samantha "
    "katherine christine debra rachel carolyn janet maria olivia heather helen catherine diane julie victoria joyce lauren kelly christina ruth "
    "joan virginia judith evelyn hannah andrea megan cheryl jacqueline madison teresa abigail sophia martha sara gloria janice kathryn ann "
    "isabella judy charlotte julia grace amber alice jean denise frances danielle marilyn natalie beverly diana brittany theresa kayla alexis "
    "doris lori tiffany claire fiona gillian eleanor rose ellen jane lucy irene norma paula wendy sheila mohammed muhammad ahmed ali omar fatima "
    "aisha wei ming li jing hui yan xin hao lei priya raj anil sanjay deepak ravi sunita anita hiroshi kenji yuki akira luis miguel pedro jorge "
    "rosa carmen elena ivan olga dmitri natasha hans klaus pierre marie giovanni marco max leo theo ben tom tim jim bob bill mike dave steve "
    "chris matt dan nick sam alex kate katie liz beth sue jenny meg peggy tony greg jeff "
    "abdul abigail ada adelaide adele adrian agnes aiden albert alejandro alfred alison allison alma alyssa amelia amir anastasia anders angelica angus anita annabelle annie antonio arjun armando arnold ashok astrid "
    "audrey augustus aurora ava barry beatrice becky bella bernard bernice bertha bianca bjorn blake bonnie boris brad brad brandi brent brett bridget brooke bryce byron caleb calvin cameron camille candice carla carlton carmela carter cassandra "
    "cecil cecilia cedric celeste chad chandra chelsea chester chloe clarence clark claude claudia clayton clifford clinton colleen connie connor cora corey courtney craig curtis daisy dana daphne darlene darrell darren dean deanna deepa della delores denis desmond "
    "devon diego dominic dominique doreen drew duane duncan dustin earl ebony eddie edgar edith edmund edna eduardo edwin eileen elaine eleanor elena eli elias elisa elise ella elliot ellis elmer eloise elsa elsie elvira emil emilia enrique erica erik erika erin ernesto esther ethel eva evan "
    "everett faith fatemeh felicia felix fernando florence floyd francesca francis francisco franklin freda frederick gabriela gail garrett gavin geneva genevieve geoffrey gilbert gina glen glenda glenn goran gordon greta gretchen guadalupe guillermo guy gwen gwendolyn hana harriet harvey hasan hassan hazel hector heidi herbert "
    "herman hilda hiroko holly homer hope horace hugo hussein ibrahim ida igor imran ingrid ira iris isaac isabel isabelle isaiah ismail isla jacqueline jaime jake jamal jamie jan jana janelle jared jasmine javier jay jeanette jeanne jed jenna jerome jill jo joann joanna joanne joaquin jodi joel joey johanna johannes jon jonas josef josefina "
    "josephine joy juana juanita judy julian juliana julien julio julius june kaitlyn kara karim karina karl karla kathy katrina kay kayla keisha kelvin kendra kent kerry khalid kim kirk krista kristen kristin kristina kurt kwame lakshmi lana lance latoya laurel lauri laurie leah lee leila lena leon leona leroy leslie lester lewis lila lillian lily lloyd lois lola "
    "lonnie loretta lorraine louise lucas lucia lucille luke luna luther lydia lyle lynn mabel mae magdalena malcolm mandy manuel marc marcella marcia marcus margarita margie marguerite marian marianne marina mario marion marisol marjorie marlene marsha marshall marta marvin mathew matilda mattie maureen maurice maxine may mei melanie melvin mercedes meredith "
    "mia micah mildred miles milton mina mindy minnie miranda miriam mitchell molly mona monica monique morgan morris muriel myra myrtle nadia nadine naomi natalia ned nellie nelson nina noel nora norman nicola olive oliver olivia omar opal ophelia orlando otto pablo pam pat patsy pauline pearl penelope penny percy perry phyllis preston priscilla rafael rajesh ramon ramona randall rashid "
    "raquel raul ray regina reginald renee rhonda ricardo rick rita rob robbie roberta roberto robin rochelle rodney roland ron roosevelt rosemary rosie ross roxanne ruben rudolph rudy rupert sabrina sadie sally salvador samir sammy santiago saul shane shaniqua shannon shari shaun shawn shelby shelley sheldon sheri sherman sherry sidney silvia sonia sonya "
    "sophie spencer stacy stella stephan sterling stewart stuart suresh suzanne sven sylvia tabitha tamara tammy tanya tara tasha ted terence terrance terri thelma theodore tiffany tina toby todd tomas toni tracey tracy travis trent trisha troy tyrone ursula valerie vanessa vera vernon veronica vicki vijay viola violet vivian vladimir wallace wanda warren wesley whitney wilbur wilfred willard winifred winston yolanda yusuf yvette yvonne zachariah zoe"
)
# Capitalised words that follow a cue and are no name.
NOT_ENGLISH_NAMES = _words(
    "a an the and or of for to in on at by with from as is was were has had have be been no not none unknown n/a na nil yes patient patients "
    "name names date dob birth age sex gender male female man woman mr mrs ms dr md rn room bed ward unit mrn number id hospital clinic center "
    "centre department service admission admitted discharge discharged history physical exam examination diagnosis diagnoses assessment plan "
    "medication medications allergies allergy vital vitals blood pressure heart rate temperature status reports reported denies denied states "
    "stated presents presented states complains complained alert oriented comfortable stable awake given received developed remained seen "
    "medical medicine surgery surgical cardiology neurology oncology radiology pathology pediatrics psychiatry emergency intensive care "
    "physician physicians doctor nurse practitioner attending resident fellow intern consultant provider primary referring family mother father "
    "phone tel telephone fax email address street road city state zip country race ethnicity marital married single widowed language english "
    "spanish insurance account visit encounter type location time procedure specimen report reason chief complaint present illness past social "
    "review systems lab labs laboratory results imaging course condition instructions follow followup will was who she he they his her this that "
    "these those it you your we our i please see note notes page continued signed dictated transcribed electronically information consent form "
    "forms contact next kin emergency relationship self spouse wife husband son daughter brother sister partner education group groups study "
    "studies data characteristics population safety outcome outcomes reported selection recruitment satisfaction health quality management "
    "demographics centered level drug drugs dose brand generic trade product device deceased refused declined pending final preliminary new york "
    "los angeles united kingdom national international university college institute school foundation society association january february march april may june july "
    "august september october november december monday tuesday wednesday thursday friday saturday sunday mr. mrs. dr. ms. prof professor miss "
    "nursing pharmacy therapy therapist technician manager director chief chair dept office evaluation consultation referral procedures "
    "operations operation surgeon anesthesia anesthesiologist anesthesiologist assistant aspirin metformin insulin lisinopril warfarin heparin "
    "type normal abnormal positive negative left right bilateral upper lower"
)
EPONYMS = (
    "disease|syndrome|sign|test|score|scale|index|criteria|classification|staging|grade|palsy|chorea|lymphoma|sarcoma|tumou?r|cells?|bod(?:y|ies)|"
    "phenomenon|reflex|method|stain|staining|catheter|procedure|operation|maneuver|manoeuvre|fracture|node|law|equation|formula|model|plot|curve|"
    "thyroiditis|encephalopathy|dementia|contracture|agar|medium|assay|blot|buffer|solution|correction|regression|coefficient|analysis"
)
STREET_TYPES = (
    "Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Ter|Parkway|Pkwy|Highway|Hwy|Way|Circle|Cir|"
    "Trail|Trl|Crescent|Cres|Close|Row|Alley|Plaza|Turnpike|Pike"
)
# Hosts of public science, whose addresses name no person.
PUBLIC_HOSTS = (
    "doi.org|ncbi.nlm.nih.gov|nih.gov|clinicaltrials.gov|who.int|creativecommons.org|cdc.gov|fda.gov|ema.europa.eu|europa.eu|cochrane.org|"
    "chictr.org.cn|crd.york.ac.uk|isrctn.com|isrctn.org|w3.org|r-project.org|github.com|nice.org.uk|orcid.org"
)
