#if KOKORO_CORE_ML_STAND_IN
    import CoreML
    import KokoroCoreML
    import SynthesisSupport
    import XCTest

    /// Puts the tiny network of a bundle behind the stand-in. What it gives has padded rows.
    enum StandInNetwork {
        /// What a model says of itself instead of what the manifest does.
        typealias Changed = @Sendable (Manifest.Tensor) -> (
            type: MLMultiArrayDataType, shape: [Int]
        )

        static func register(_ bundle: BundleFolder, describing change: Changed? = nil) {
            StandIn.reset()
            for package in bundle.manifest.packages {
                let isSingle = package.functions.map(\.name) == ["main"]
                let functions = package.functions.map { function in
                    (isSingle ? nil : function.name, model(function, change))
                }
                StandIn.register(
                    package.file.replacingOccurrences(of: ".mlpackage", with: ""),
                    Dictionary(uniqueKeysWithValues: functions))
            }
        }

        static func model(
            _ function: Manifest.Function, _ change: Changed? = nil
        ) -> StandIn.Function {
            StandIn.Function(
                description: {
                    let features = { (ports: [Manifest.Tensor]) in
                        ports.map { port in
                            let (type, shape) =
                                change?(port) ?? (PaddedArray.type(port.type), port.shape)
                            return MLFeatureDescription(
                                standInName: port.name,
                                multiArray: MLMultiArrayConstraint(
                                    standInShape: shape, dataType: type))
                        }
                    }
                    return MLModelDescription(
                        standInInputs: features(function.inputs),
                        outputs: features(function.outputs))
                },
                run: { try run(function, $0) })
        }

        private static func run(
            _ function: Manifest.Function, _ given: any MLFeatureProvider
        ) throws -> [String: MLFeatureValue] {
            var inputs: [String: Tensor] = [:]
            for port in function.inputs {
                let array = try XCTUnwrap(given.featureValue(for: port.name)?.multiArrayValue)
                XCTAssertEqual(array.shape.map(\.intValue), port.shape)
                XCTAssertEqual(array.dataType, PaddedArray.type(port.type))
                inputs[port.name] = try Tensor(
                    bytes: PaddedArray.values(array), type: port.type, shape: port.shape)
            }
            return try TinyNetwork.run(function, inputs).mapValues { tensor in
                let bytes = try tensor.storage.bytes()
                return MLFeatureValue(
                    multiArray: try PaddedArray.make(bytes, tensor.type, tensor.shape))
            }
        }
    }

    /// A folder that a test may make.
    struct TemporaryFolder: Sendable {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent(
            "compiled-\(UUID().uuidString)")

        func remove() { try? FileManager.default.removeItem(at: url) }

        /// Every file, by path.
        func files() throws -> [String] {
            try FileManager.default.subpathsOfDirectory(atPath: url.path).sorted()
        }
    }
#endif
