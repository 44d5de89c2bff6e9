// swift-tools-version: 5.9
import PackageDescription

var strict: [SwiftSetting] = [.enableExperimentalFeature("StrictConcurrency")]
var coreML: [Target.Dependency] = []
var standIn: [Target] = []

// Linux has no Core ML. `linux/run` puts a stand-in of ours in its place, so that what calls Core
// ML is compiled and tested; no other build sees it, and none on a system of Apple's can.
#if os(Linux)
    if Context.environment["KOKORO_CORE_ML_STAND_IN"] == "1" {
        strict.append(.define("KOKORO_CORE_ML_STAND_IN"))
        coreML = ["CoreML"]
        standIn = [.target(name: "CoreML", path: "linux/CoreML", swiftSettings: strict)]
    }
#endif

let package = Package(
    name: "KokoroHarness",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        .library(name: "KokoroBundle", targets: ["KokoroBundle"]),
        .library(name: "KokoroSignal", targets: ["KokoroSignal"]),
        .library(name: "KokoroSynthesis", targets: ["KokoroSynthesis"]),
        .library(name: "KokoroCoreML", targets: ["KokoroCoreML"]),
        .library(name: "KokoroSayModel", targets: ["KokoroSayModel"]),
    ],
    targets: [
        .target(name: "KokoroBundle", swiftSettings: strict),
        .target(name: "KokoroSignal", dependencies: ["KokoroBundle"], swiftSettings: strict),
        .target(
            name: "KokoroSynthesis", dependencies: ["KokoroBundle", "KokoroSignal"],
            swiftSettings: strict),
        .target(
            name: "KokoroCoreML", dependencies: ["KokoroSynthesis"] + coreML,
            swiftSettings: strict),
        .target(
            name: "KokoroSayModel", dependencies: ["KokoroSynthesis"], swiftSettings: strict),
        .target(
            name: "GoldenSupport", dependencies: ["KokoroBundle"], path: "Tests/GoldenSupport",
            swiftSettings: strict),
        .target(
            name: "SynthesisSupport", dependencies: ["KokoroSynthesis"],
            path: "Tests/SynthesisSupport", swiftSettings: strict),
        .testTarget(
            name: "KokoroBundleTests", dependencies: ["KokoroBundle", "GoldenSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "KokoroSignalTests", dependencies: ["KokoroSignal", "GoldenSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "KokoroSynthesisTests", dependencies: ["KokoroSynthesis", "SynthesisSupport"],
            swiftSettings: strict),
        .testTarget(
            name: "KokoroCoreMLTests",
            dependencies: ["KokoroCoreML", "SynthesisSupport"] + coreML, swiftSettings: strict),
        .testTarget(
            name: "KokoroSayModelTests",
            dependencies: ["KokoroSayModel", "SynthesisSupport", "GoldenSupport"],
            swiftSettings: strict),
    ] + standIn
)
