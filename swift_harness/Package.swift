// swift-tools-version: 5.9
import PackageDescription

let strict: [SwiftSetting] = [.enableExperimentalFeature("StrictConcurrency")]

let package = Package(
    name: "KokoroHarness",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        .library(name: "KokoroBundle", targets: ["KokoroBundle"]),
        .library(name: "KokoroSignal", targets: ["KokoroSignal"]),
    ],
    targets: [
        .target(name: "KokoroBundle", swiftSettings: strict),
        .target(name: "KokoroSignal", dependencies: ["KokoroBundle"], swiftSettings: strict),
        .target(
            name: "KokoroGoldens", dependencies: ["KokoroBundle", "KokoroSignal"],
            swiftSettings: strict),
        .target(
            name: "GoldenSupport", dependencies: ["KokoroGoldens"], path: "Tests/GoldenSupport",
            swiftSettings: strict),
        .testTarget(
            name: "KokoroBundleTests", dependencies: ["KokoroBundle"],
            swiftSettings: strict),
        .testTarget(
            name: "KokoroSignalTests", dependencies: ["KokoroSignal"], swiftSettings: strict),
        .testTarget(
            name: "KokoroGoldensTests", dependencies: ["KokoroGoldens", "GoldenSupport"],
            swiftSettings: strict),
    ]
)
