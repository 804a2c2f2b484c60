"""COCO's matching, slow and obvious: the reference for the fast ones."""


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def slow_matches(film, label, threshold, max_detections):
    """(score, is hit) of the detections that count, best first: COCO's rule as its paper and code have it."""
    flaws = [
        {"box": box, "difficult": difficult, "taken": False}
        for box, flaw_label, difficult in zip(
            film.truth.boxes_xyxy.tolist(), film.truth.labels, film.truth.is_difficult, strict=True
        )
        if flaw_label == label
    ]
    outcomes = []
    rows = zip(
        film.detections.boxes_xyxy.tolist(), film.detections.scores.tolist(), film.detections.labels, strict=True
    )
    of_class = [(box, score) for box, score, found_label in rows if found_label == label]
    for box, score in of_class[:max_detections]:
        best, best_iou = None, min(threshold, 1 - 1e-10)
        for flaw in flaws:
            shared = overlap(box, flaw["box"])
            iou = shared / (area(box) + area(flaw["box"]) - shared)
            if not flaw["difficult"] and not flaw["taken"] and iou >= best_iou:
                best, best_iou = flaw, iou
        if best is not None:
            best["taken"] = True
            outcomes.append((score, True))
        elif not any(f["difficult"] and overlap(box, f["box"]) / area(box) >= threshold for f in flaws):
            outcomes.append((score, False))
    return outcomes, sum(not flaw["difficult"] for flaw in flaws)
