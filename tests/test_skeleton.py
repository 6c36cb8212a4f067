import numpy as np
import pytest

from lithepose.heads.pafs import COCO_HEAD, OPENPOSE_HEAD
from lithepose.skeleton import OPENPOSE_18, SKELETONS, Skeleton


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_flip_twice_is_identity_and_swaps_names(skeleton: Skeleton):
    order = np.array(skeleton.flip_order)
    assert (order[order] == np.arange(len(skeleton))).all()
    for i, j in enumerate(order):
        swapped = skeleton.joints[i].translate(str.maketrans({})).replace("left", "#").replace("right", "left")
        assert skeleton.joints[j] == swapped.replace("#", "right")


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_every_joint_is_drawn_and_sides_have_their_colours(skeleton: Skeleton):
    assert {i for edge in skeleton.edges for i in edge} == set(range(len(skeleton)))
    for (a, b), (red, _, blue) in zip(skeleton.edges, skeleton.edge_colours, strict=True):
        sides = {name.split("_")[0] for name in (skeleton.joints[a], skeleton.joints[b])}
        if sides == {"left"}:
            assert red > blue
        if sides == {"right"}:
            assert blue > red


@pytest.mark.parametrize("head", [COCO_HEAD, OPENPOSE_HEAD], ids=lambda h: h.skeleton.name)
def test_limbs_of_a_head_join_all_its_joints_and_mirror(head):
    reached = {head.limbs[0][0]}
    for _ in head.limbs:
        reached |= {i for limb in head.limbs if reached & set(limb) for i in limb}
    assert reached == set(range(len(head.skeleton)))
    order = np.array(head.limb_flip_order)
    assert (order[order] == np.arange(len(head.limbs))).all()


def test_counts_of_joints_and_channels():
    assert COCO_HEAD.channels == (18, 38)
    assert [len(s) for s in SKELETONS.values()] == [17, 18, 25, 16, 16, 11, 14]
    assert COCO_HEAD.output.joints == tuple(COCO_HEAD.skeleton.joints[i] for i in COCO_HEAD.output_order)
    assert set(OPENPOSE_18.joints) == set(COCO_HEAD.skeleton.joints)


def test_skeleton_from_toml(tmp_path):
    path = tmp_path / "hand.toml"
    path.write_text('name = "hand"\njoints = ["wrist", "tip"]\nedges = [["wrist", "tip"]]\n')
    assert Skeleton.from_toml(path) == Skeleton("hand", ("wrist", "tip"), ((0, 1),))
    path.write_text('name = "hand"\njoints = ["wrist"]\nedges = [["wrist", "toe"]]\n')
    with pytest.raises(ValueError, match=r"hand\.toml.*toe"):
        Skeleton.from_toml(path)


def test_wrong_skeletons_are_refused():
    with pytest.raises(ValueError, match="duplicate"):
        Skeleton("a", ("x", "x"))
    with pytest.raises(ValueError, match="outside"):
        Skeleton("a", ("x", "y"), ((0, 2),))
    with pytest.raises(ValueError, match="sigmas"):
        Skeleton("a", ("x", "y"), sigmas=(0.1,))
