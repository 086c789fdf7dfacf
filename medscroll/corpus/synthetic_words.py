"""Vocabulary and sentence patterns of the synthetic corpus, Chinese and English, all invented for this project.

Slots in braces are filled from `WORDS` or from the number makers of `synthetic`. The texts only look medical: doses,
values and recommendations are made up and must never be used for anything but trying the software.
"""

# ruff: noqa: E501  (tables of data; a Chinese character counts as two columns)

from __future__ import annotations

WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "zh": {
        "disease": ("社区获得性肺炎", "2型糖尿病", "原发性高血压", "慢性阻塞性肺疾病", "冠状动脉粥样硬化性心脏病", "急性胰腺炎",
                    "类风湿关节炎", "慢性肾脏病3期", "缺铁性贫血", "甲状腺功能亢进症", "心房颤动", "脑梗死", "胆囊结石", "支气管哮喘"),
        "symptom": ("发热", "咳嗽咳痰", "胸闷气促", "上腹部疼痛", "乏力", "头晕", "双下肢水肿", "心悸", "恶心呕吐", "食欲减退", "关节肿痛",
                    "夜间盗汗", "活动后呼吸困难"),
        "drug": ("阿莫西林克拉维酸钾", "二甲双胍", "氨氯地平", "阿托伐他汀", "奥美拉唑", "呋塞米", "左氧氟沙星", "布地奈德", "华法林",
                 "美托洛尔", "胰岛素", "多糖铁复合物", "甲巯咪唑"),
        "lab": ("白细胞计数", "血红蛋白", "血肌酐", "空腹血糖", "C反应蛋白", "谷丙转氨酶", "血钾", "D-二聚体", "降钙素原", "糖化血红蛋白"),
        "exam": ("胸部CT", "腹部彩超", "心电图", "超声心动图", "头颅MRI", "胃镜", "肺功能检查", "下肢血管超声"),
        "finding": ("未见明显异常", "右下肺斑片状高密度影", "左心室壁轻度增厚", "胆囊壁毛糙", "双侧少量胸腔积液", "窦性心律，偶发房性早搏",
                    "慢性非萎缩性胃炎", "肝脏回声增强", "阻塞性通气功能障碍"),
        "department": ("呼吸内科", "心血管内科", "内分泌科", "消化内科", "肾内科", "神经内科", "风湿免疫科", "急诊科", "普外科"),
        "route": ("口服", "静脉滴注", "皮下注射", "雾化吸入"),
        "often": ("每日一次", "每日两次", "每8小时一次", "每晚一次", "每周一次"),
        "sex": ("男性", "女性"),
        "course": ("症状逐渐缓解", "病情较前稳定", "体温恢复正常", "症状反复", "未诉特殊不适", "夜间睡眠可", "食欲好转"),
        "advice": ("低盐低脂饮食", "注意休息，避免劳累", "监测血压和血糖", "戒烟限酒", "适量运动", "门诊随访", "如有不适及时就诊"),
        "grade": ("强推荐，高质量证据", "强推荐，中等质量证据", "弱推荐，低质量证据", "专家共识"),
        "group": ("老年患者", "妊娠期妇女", "肾功能不全者", "儿童", "合并糖尿病者", "既往过敏者"),
        "mechanism": ("炎症反应", "氧化应激", "肾素-血管紧张素系统激活", "胰岛素抵抗", "内皮功能障碍", "免疫复合物沉积", "交感神经兴奋"),
        "surname": ("张", "王", "李", "陈", "刘", "周", "吴", "郑", "孙", "林"),
    },
    "en": {
        "disease": ("community-acquired pneumonia", "type 2 diabetes mellitus", "essential hypertension", "acute pancreatitis",
                    "chronic obstructive pulmonary disease", "coronary artery disease", "rheumatoid arthritis", "stage 3 chronic "
                    "kidney disease", "iron deficiency anaemia", "atrial fibrillation", "ischaemic stroke", "bronchial asthma"),
        "symptom": ("fever", "productive cough", "chest tightness", "epigastric pain", "fatigue", "dizziness", "ankle oedema",
                    "palpitations", "nausea and vomiting", "loss of appetite", "joint swelling", "night sweats", "dyspnoea"),
        "drug": ("amoxicillin-clavulanate", "metformin", "amlodipine", "atorvastatin", "omeprazole", "furosemide", "levofloxacin",
                 "budesonide", "warfarin", "metoprolol", "insulin glargine", "ferrous fumarate", "methimazole"),
        "lab": ("white cell count", "haemoglobin", "serum creatinine", "fasting glucose", "C-reactive protein", "ALT", "potassium",
                "D-dimer", "procalcitonin", "HbA1c"),
        "exam": ("chest CT", "abdominal ultrasound", "electrocardiogram", "echocardiography", "brain MRI", "gastroscopy",
                 "spirometry", "Doppler ultrasound of the legs"),
        "finding": ("no abnormality", "patchy consolidation in the right lower lobe", "mild left ventricular hypertrophy",
                    "a thickened gallbladder wall", "small bilateral pleural effusions", "sinus rhythm with occasional ectopics",
                    "chronic superficial gastritis", "an obstructive pattern"),
        "department": ("Respiratory Medicine", "Cardiology", "Endocrinology", "Gastroenterology", "Nephrology", "Neurology",
                       "Rheumatology", "Emergency Medicine", "General Surgery"),
        "route": ("orally", "intravenously", "subcutaneously", "by inhalation"),
        "often": ("once daily", "twice daily", "every 8 hours", "at night", "once weekly"),
        "sex": ("man", "woman"),
        "course": ("symptoms gradually improved", "the condition remained stable", "the temperature returned to normal",
                   "symptoms recurred", "no new complaints were reported", "the patient slept well", "appetite improved"),
        "advice": ("a low-salt, low-fat diet", "rest and avoidance of exertion", "home monitoring of blood pressure",
                   "smoking cessation", "moderate exercise", "outpatient follow-up", "early return if symptoms worsen"),
        "grade": ("strong recommendation, high-quality evidence", "strong recommendation, moderate-quality evidence",
                  "weak recommendation, low-quality evidence", "expert consensus"),
        "group": ("older adults", "pregnant women", "people with renal impairment", "children", "people with diabetes",
                  "people with known allergy"),
        "mechanism": ("inflammation", "oxidative stress", "activation of the renin-angiotensin system", "insulin resistance",
                      "endothelial dysfunction", "immune complex deposition", "sympathetic activation"),
        "surname": ("A. B.", "C. D.", "E. F.", "G. H.", "J. K.", "L. M.", "N. P.", "R. S."),
    },
}  # fmt: skip

UNITS = ("×10⁹/L", "g/L", "μmol/L", "mmol/L", "mg/L", "U/L", "ng/mL", "%")
DOSES = ("0.5g", "5mg", "10mg", "20mg", "40mg", "0.25g", "8IU", "100μg", "1.2g")

PATTERNS: dict[str, dict[str, tuple[str, ...]]] = {
    "zh": {
        "history": (
            "患者{surname}某，{sex}，{age}岁，因“{symptom}{n}天”于{date}收入{department}。",
            "{n}天前无明显诱因出现{symptom}，伴{symptom}，无{symptom}。",
            "外院予{drug}{dose}{route}{often}，{course}。",
            "既往有{disease}病史{n}年，长期服用{drug}，控制情况一般。",
            "否认{disease}、{disease}等病史，否认药物过敏史。",
            "体温{temperature}℃，脉搏{pulse}次/分，血压{pressure}mmHg，血氧饱和度{saturation}%。",
        ),
        "progress": (
            "{date}查房：{course}，体温{temperature}℃，血压{pressure}mmHg。",
            "复查{lab}{value}，较前{change}。",
            "{exam}示：{finding}；{finding}。",
            "予{drug}{dose}{route}{often}，并监测{lab}。",
            "考虑{disease}可能性大，请{department}会诊，建议完善{exam}。",
            "患者诉{symptom}，查{lab}{value}，{lab}{value}，将{drug}调整为{dose}{often}。",
        ),
        "advice": (
            "出院后继续{drug}{dose}{route}{often}，疗程{n}周。",
            "嘱{advice}，{advice}。",
            "{n}周后于{department}门诊复查{lab}和{exam}。",
        ),
        "recommend": (
            "推荐意见{n}：对于{group}，建议首选{drug}{dose}{route}{often}（{grade}）。",
            "当{lab}超过{value}时，应加用{drug}，并在{n}天内复查（{grade}）。",
            "{disease}患者合并{symptom}时，应尽早行{exam}检查，以除外{disease}。",
            "不建议对{group}常规使用{drug}，除非{lab}低于{value}。",
            "随访间隔为{n}个月，内容包括{lab}、{lab}和{exam}。",
            "多项研究共纳入{many}例，结果显示{drug}组{symptom}发生率为{percent}%，对照组为{percent}%（P<0.05）。",
        ),
        "theory": (
            "{disease}的发生与{mechanism}和{mechanism}有关，是{group}住院的常见原因之一。",
            "{mechanism}可导致{symptom}，严重时出现{symptom}和{symptom}。",
            "典型表现为{symptom}，约{percent}%的患者伴有{symptom}。",
            "诊断主要依据{exam}和{lab}，需与{disease}相鉴别。",
            "治疗上以{drug}为基础，常用剂量为{dose}，{route}，{often}。",
            "预后与{lab}水平密切相关，{lab}高于{value}者预后较差。",
        ),
    },
    "en": {
        "history": (
            "Patient {surname}, a {age}-year-old {sex}, was admitted to {department} on {date} with {symptom} for {n} days.",
            "The {symptom} began {n} days earlier without a clear trigger and was accompanied by {symptom}, without {symptom}.",
            "{drug} {dose} was given {route} {often} elsewhere, after which {course}.",
            "There was a {n}-year history of {disease}, treated with {drug} with moderate control.",
            "The patient denied {disease}, {disease} and drug allergies.",
            "Temperature was {temperature} °C, pulse {pulse}/min, blood pressure {pressure} mmHg and SpO₂ {saturation}%.",
        ),
        "progress": (
            "On {date} {course}; temperature {temperature} °C, blood pressure {pressure} mmHg.",
            "Repeat {lab} was {value}, {change} compared with before.",
            "The {exam} showed {finding} and {finding}.",
            "{drug} {dose} was given {route} {often} and {lab} was monitored.",
            "As {disease} was considered likely, {department} was consulted and advised {exam}.",
            "The patient reported {symptom}; {lab} was {value}, {lab} {value}, and {drug} was changed to {dose} {often}.",
        ),
        "advice": (
            "Continue {drug} {dose} {route} {often} for {n} weeks.",
            "Advice was given on {advice} and {advice}.",
            "Review at {department} in {n} weeks with {lab} and {exam}.",
        ),
        "recommend": (
            "Recommendation {n}: in {group}, {drug} {dose} {route} {often} is suggested first ({grade}).",
            "When {lab} exceeds {value}, {drug} should be added and the test repeated within {n} days ({grade}).",
            "People with {disease} who develop {symptom} should have {exam} early, to exclude {disease}.",
            "Routine use of {drug} in {group} is not advised unless {lab} is below {value}.",
            "Follow-up takes place every {n} months and includes {lab}, {lab} and {exam}.",
            "Across studies with {many} participants, {symptom} occurred in {percent}% with {drug} and {percent}% with placebo "
            "(p < 0.05).",
        ),
        "theory": (
            "The onset of {disease} involves {mechanism} and {mechanism}; it is a common cause of admission in {group}.",
            "Excess {mechanism} may lead to {symptom} and, in severe cases, to {symptom} and {symptom}.",
            "The typical presentation is {symptom}; about {percent}% of patients also have {symptom}.",
            "Diagnosis rests on {exam} and {lab} and must be distinguished from {disease}.",
            "Treatment is based on {drug}, usually {dose} {route} {often}.",
            "Prognosis depends on {lab}; values above {value} carry a worse outcome.",
        ),
    },
}  # fmt: skip

# kind -> language -> (title, [(heading, pattern group)] of which the last but one is repeated until the text is long
# enough)
KINDS: dict[str, dict[str, tuple[str, tuple[tuple[str, str], ...]]]] = {
    "discharge_summary": {
        "zh": ("出院小结：{disease}", (("主诉", "history"), ("现病史", "history"), ("既往史", "history"), ("诊疗经过", "progress"),
                                 ("出院医嘱", "advice"))),
        "en": ("Discharge summary: {disease}", (("Chief Complaint", "history"), ("History of Present Illness", "history"),
                                                ("Past Medical History", "history"), ("Hospital Course", "progress"),
                                                ("Discharge Instructions", "advice"))),
    },
    "guideline": {
        "zh": ("{disease}诊疗指南（虚构）", (("背景", "theory"), ("诊断", "theory"), ("推荐意见", "recommend"), ("随访", "advice"))),
        "en": ("Guideline on {disease} (fictional)", (("Background", "theory"), ("Diagnosis", "theory"),
                                                      ("Recommendations", "recommend"), ("Follow-up", "advice"))),
    },
    "case_report": {
        "zh": ("{disease}合并{disease}一例", (("摘要", "theory"), ("病例资料", "history"), ("治疗经过", "progress"), ("讨论", "theory"))),
        "en": ("{disease} with {disease}: a case report", (("Abstract", "theory"), ("Introduction", "history"),
                                                           ("Results", "progress"), ("Discussion", "theory"))),
    },
    "textbook": {
        "zh": ("第{n}章 {disease}", (("概述", "theory"), ("病因与发病机制", "theory"), ("治疗", "recommend"), ("小结", "theory"))),
        "en": ("Chapter {n}. {disease}", (("Overview", "theory"), ("Causes and mechanisms", "theory"),
                                          ("Treatment", "recommend"), ("Summary", "theory"))),
    },
}  # fmt: skip
